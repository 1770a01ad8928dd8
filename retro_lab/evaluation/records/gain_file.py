"""gain.json: the gain taken apart, in numbers; the bins and correlations that gain.png draws."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..measure.gain import Gain
from .results import EVALUATE_AGAIN, load_record, write_json

SCHEMA_VERSION = 1
GAIN_FILE = "gain.json"


def save_gain(gain: Gain, path: Path) -> None:
    """Write as `write_json` does; the same gain gives the same bytes."""
    write_json({"schema_version": SCHEMA_VERSION, **asdict(gain)}, path)


def load_gain(path: Path) -> Gain:
    """Read gain.json.

    Raises:
        UserError: no such file, a damaged one, or one of another schema version.
    """
    return load_record(Gain, path, SCHEMA_VERSION, EVALUATE_AGAIN)

"""gain.json: the bins and correlations of the gain that gain.png draws."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..measure.gain import Gain
from .record_file import EVALUATE_AGAIN, load_record, write_json

SCHEMA_VERSION = 1
GAIN_FILE = "gain.json"


def save_gain(gain: Gain, path: Path) -> None:
    """Writes gain.json atomically; the same gain gives the same bytes."""
    write_json({"schema_version": SCHEMA_VERSION, **asdict(gain)}, path)


def load_gain(path: Path) -> Gain:
    """Reads gain.json.

    Raises:
        UserError: the file is missing, damaged or of another schema version.
    """
    return load_record(Gain, path, SCHEMA_VERSION, EVALUATE_AGAIN)

"""gain.json: the gain taken apart, in numbers; the bins and correlations that gain.png draws."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from retro_lab.config.errors import UserError

from ..measure.gain import Gain
from .results import decode, read_json, write_json

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
    fix = "run the evaluation again; it writes the file anew"
    if not path.is_file():
        raise UserError(f"{path} does not exist", fix=fix)
    record = read_json(path, fix)
    try:
        if record.pop("schema_version", None) != SCHEMA_VERSION:
            raise ValueError(f"its schema_version is not {SCHEMA_VERSION}")
        return decode(Gain, record, "")
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}", fix=fix) from error

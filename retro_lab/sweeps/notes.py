"""Reads and writes the small JSON files of a sweep: `sweep.json` and `failure.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from retro_lab.config.errors import UserError
from retro_lab.config.files import replacing

T = TypeVar("T")


def write_note(path: Path, note: Any) -> None:
    """Writes plain data as JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def read_note(path: Path, make: Callable[[Any], T], fix: str) -> T | None:
    """The result of `make` on a file's JSON; None if there is no such file.

    Raises:
        UserError: the file is damaged; with `fix` as its remedy.
    """
    if not path.is_file():
        return None
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}", fix=fix) from error

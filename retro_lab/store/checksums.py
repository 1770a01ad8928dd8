"""A run's files and their checksums: what is read is what was written, or it is named.

checksums.json lies beside the files: SHA-256 by name. It is written before a file takes its place
and again after, and between the two it has both digests, so that whenever a process dies the file
that is there fits it. Files without a digest, those of older runs, are read as they are.

One process at a time writes into a folder, which the run's lock sees to; any number may read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.config.files import replacing

from .integrity import read_record, sha256_of, write_record

CHECKSUMS = "checksums.json"


@contextmanager
def recorded(path: Path) -> Iterator[Path]:
    """As `replacing`, and the file's SHA-256 stands in checksums.json beside it."""
    with replacing(path) as temporary:
        yield temporary
        digest = sha256_of(temporary)
        _note(path, [*_digests(path), digest])
    _note(path, [digest])


def check_recorded(path: Path, fix: str) -> None:
    """Reads the file and compares it with its record, if it has one.

    Args:
        fix: what to do about a file that was changed.

    Raises:
        UserError: the file, or the record, is not as it was written.
        OSError: it cannot be read, which is no damage.
    """
    known = _digests(path)
    while known and (found := sha256_of(path)) not in known:
        now = _digests(path)
        if now == known:
            raise UserError(
                f"{path} is damaged: it has SHA-256 {found[:12]}..., {known[-1][:12]}... was "
                f"written (the record is {path.with_name(CHECKSUMS)})",
                fix=fix,
            )
        known = now  # another process has just written the file anew


def _digests(path: Path) -> list[str]:
    """What the file may be: one digest, or more if a process died while it was replaced."""
    return _read(path.with_name(CHECKSUMS)).get(path.name, [])


def _note(path: Path, digests: Sequence[str]) -> None:
    record = path.with_name(CHECKSUMS)
    write_record(record, {"files": {**_read(record), path.name: list(digests)}})


def _read(record: Path) -> dict[str, list[str]]:
    if not record.exists():
        return {}
    try:
        return read_record(record)["files"]
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{record} is damaged: {error}",
            fix=f"put back a copy; or remove it, and the files in {record.parent} are read "
            "unchecked until they are written anew",
        ) from error

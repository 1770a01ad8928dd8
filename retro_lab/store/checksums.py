"""SHA-256 checksums of a run's files, kept in checksums.json beside the files.

checksums.json maps a file name to its digests. It is written before and after a file is replaced
and holds both digests in between, so a process that dies leaves a file with a valid record. Files
without a digest, from older runs, are read unchecked.

Only one process may write into a folder, which the run's lock ensures; any number may read.
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
    """As `replacing`, and records the file's SHA-256 in checksums.json beside it."""
    with replacing(path) as temporary:
        yield temporary
        digest = sha256_of(temporary)
        _note(path, [*_digests(path), digest])
    _note(path, [digest])


def check_recorded(path: Path, fix: str) -> None:
    """Compares the file with its recorded digests, if any.

    Args:
        fix: what to do about a changed file.

    Raises:
        UserError: the file or the record is damaged.
        OSError: reading failed, which proves no damage.
    """
    differing = _differing(path)
    if differing is not None:
        found, known = differing
        raise UserError(
            f"{path} is damaged: it has SHA-256 {found[:12]}..., {known[:12]}... was written (the "
            f"record is {path.with_name(CHECKSUMS)})",
            fix=fix,
        )


def is_changed(path: Path) -> bool:
    """Whether the file has another content than was recorded, if any was."""
    return _differing(path) is not None


def _differing(path: Path) -> tuple[str, str] | None:
    """The digest of a changed file and the recorded one; None for an unchanged file."""
    known = _digests(path)
    while known and (found := sha256_of(path)) not in known:
        now = _digests(path)
        if now == known:
            return found, known[-1]
        known = now  # another process has just rewritten the file
    return None


def _digests(path: Path) -> list[str]:
    """The file's recorded digests: one, or two or more if a process died while replacing it."""
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

"""A folder for users that appears whole or not at all, and is never overwritten."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from retro_lab.config.errors import UserError
from retro_lab.config.refusals import writing


def taken(out: Path, differing: str = "") -> UserError:
    """The error for a folder that is there already.

    Args:
        differing: a file of it that another content belongs in.
    """
    words = f", and its {differing} is not of this export" if differing else ""
    return UserError(f"{out} is there already{words}", fix="give the name of a new folder")


@contextmanager
def published(out: Path) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `out` at the end; others wait for a lock.

    A folder that already has the same content is kept.

    Raises:
        UserError: `out` can't be made, or has other content.
        OSError: naming `out`, if a file can't be written.
    """
    partial, lock = (out.with_name(f".{out.name}.{end}") for end in ("partial", "lock"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire()
    except OSError as error:
        words = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(
            f"out={out} cannot be made: {words}", fix="give a folder where you may write"
        ) from None
    with held, writing(out):
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            partial.mkdir()
            yield partial
            _make_readable(partial)
            _publish(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _make_readable(folder: Path) -> None:
    """Gives every file the mode of a new file; libraries make some that only the owner may read."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _publish(partial: Path, out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        for name in sorted({path.name for folder in (partial, out) for path in folder.iterdir()}):
            if not _same(partial / name, out / name):
                raise taken(out, name)
        return
    if out.exists():
        out.rmdir()
    partial.replace(out)


def _same(one: Path, other: Path) -> bool:
    if one.is_dir() and other.is_dir():
        names = {path.name for folder in (one, other) for path in folder.iterdir()}
        return all(_same(one / name, other / name) for name in names)
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)

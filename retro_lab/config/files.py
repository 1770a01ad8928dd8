"""Atomic file writes: written beside the target, flushed to disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .refusals import system_error, with_path

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, and renames it to `path` at the end.

    If the block raises, the old file stays. Only one process may write to `path` at a time.

    Raises:
        OSError: naming `path`, if the system refuses the write; plus the block's own exceptions.
    """
    temporary = path.with_name(path.name + PARTIAL)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except BaseException as error:
        _remove(temporary)
        refused = system_error(error)
        if refused is None:
            raise
        raise with_path(refused, path) from error


def sync(path: Path) -> None:
    """Flushes a file or a folder to disk, so that it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Removes a file if possible; a failure here must not hide the first error."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return

"""Files that are whole or absent: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .refusals import as_refused, system_error

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write a file to; at the end it takes `path`'s place at once.

    Until then, and for good if the block raises, what was at `path` stays as it was. The file is
    on the same file system, and is flushed to disk first. One process at a time may write to
    `path`.

    Raises:
        OSError: naming `path`, if the machine refuses to write it; whatever else the block raises.
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
        raise as_refused(refused, path) from error


def sync(path: Path) -> None:
    """Flushes a file or a folder to disk, so that it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Removes a file if that can be done; what led here is the error that counts."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return

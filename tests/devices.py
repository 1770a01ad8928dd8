"""File systems for tests of what happens across two of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
_OTHERS = (MEMORY, Path("/var/tmp"), Path.home())


def in_memory(folder: Path) -> Path:
    """A folder of a file system in memory, or `folder` where there is none."""
    return MEMORY if _writable(MEMORY) else folder


def other_device(folder: Path) -> Path | None:
    """A new folder on another file system than `folder`; None if there is none."""
    for place in _OTHERS:
        if _writable(place) and place.stat().st_dev != folder.stat().st_dev:
            return Path(tempfile.mkdtemp(prefix="retro-lab-", dir=place))
    return None


def _writable(place: Path) -> bool:
    return place.is_dir() and os.access(place, os.W_OK)

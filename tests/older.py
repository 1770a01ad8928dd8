"""Folders as they were before a run's files had checksums."""

from __future__ import annotations

from pathlib import Path

from retro_lab.store.checksums import CHECKSUMS


def without_checksums(folder: Path) -> None:
    """From now on the files in `folder` may be changed by hand."""
    (folder / CHECKSUMS).unlink()

"""Selects files of a folder or glob that are no text of the corpus: hidden, our output, copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

from retro_lab.store.integrity import MANIFEST
from retro_lab.store.stage import KEY

_Path = TypeVar("_Path", bound=PurePath)

COMPRESSED = (".gz", ".zst", ".xz", ".bz2")
"""Suffixes of compressed files, after the name of the original."""

_RUN_FILES = ("status.json", "lineage.json")  # either, beside config.yaml, marks a run's folder


def left_out(names: Iterable[str], root: Path, patterns: Sequence[str] = ()) -> dict[str, str]:
    """The files to leave out, each with the reason.

    Args:
        names: names of the files found, relative to `root`, with slashes.
        root: a folder.
        patterns: the globs that found the files; one with a leading dot selects hidden files.
    """
    places = sorted(map(PurePosixPath, names))
    asked = any(part.startswith(".") for pattern in patterns for part in Path(pattern).parts)
    output = cache(_output)  # many files share a folder

    def reason(place: PurePosixPath) -> str | None:
        name, folders = place.name, place.parents[:-1]  # without the root, which the user named
        if name.endswith("~") or (name.startswith("#") and name.endswith("#")):
            return "an editor's copy"
        if not asked and any(part.startswith(".") for part in place.parts):
            return "hidden"
        return next(filter(None, (output(root / folder) for folder in folders)), None)

    found = {place: why for place in places if (why := reason(place)) is not None}
    found |= _copies([place for place in places if place not in found])
    return {str(place): why for place, why in found.items()}


def _output(folder: Path) -> str | None:
    """The reason to leave out a run's directory or a stored result; None for other folders."""
    if (folder / "config.yaml").is_file() and any((folder / n).is_file() for n in _RUN_FILES):
        return "in the folder of a run"
    key = folder.name.partition(".")[0]  # a build in progress has a suffix
    if KEY.fullmatch(key) and (key != folder.name or (folder / MANIFEST).is_file()):
        return "in a store"
    return None


def _copies(places: Sequence[PurePosixPath]) -> dict[PurePosixPath, str]:
    """Duplicates up to compression: all such files except the first.

    Args:
        places: sorted, so that a plain file comes before its compressed copies.
    """
    first: dict[PurePosixPath, PurePosixPath] = {}
    found = {}
    for place in places:
        kept = first.setdefault(uncompressed(place), place)
        if kept != place:
            found[place] = f"a compressed copy of {kept.name}"
    return found


def uncompressed(place: _Path) -> _Path:
    """The path without a compression suffix."""
    return place.with_suffix("") if place.suffix in COMPRESSED else place

"""Which files of a folder or glob are no text of the corpus: hidden ones, our output, copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

from retro_lab.store.integrity import MANIFEST
from retro_lab.store.stage import KEY

_Path = TypeVar("_Path", bound=PurePath)

COMPRESSED = (".gz", ".zst", ".xz", ".bz2")
"""Suffixes of a compressed file; before them stands the name of what was compressed."""

_RUN_FILES = ("status.json", "lineage.json")  # either, beside config.yaml


def left_out(names: Iterable[str], root: Path, patterns: Sequence[str] = ()) -> dict[str, str]:
    """The files that are not to be read, each with the reason.

    Args:
        names: of the files found, relative to `root`, with slashes.
        root: a folder.
        patterns: those that the files were found by; one that spells a leading dot asks for hidden
            files.
    """
    places = sorted(map(PurePosixPath, names))
    asked = any(part.startswith(".") for pattern in patterns for part in Path(pattern).parts)
    output = cache(_output)  # of a folder that many files lie in

    def reason(place: PurePosixPath) -> str | None:
        name, folders = place.name, place.parents[:-1]  # the root is what a user named
        if name.endswith("~") or (name.startswith("#") and name.endswith("#")):
            return "an editor's copy"
        if not asked and any(part.startswith(".") for part in place.parts):
            return "hidden"
        return next(filter(None, (output(root / folder) for folder in folders)), None)

    found = {place: why for place in places if (why := reason(place)) is not None}
    found |= _copies([place for place in places if place not in found])
    return {str(place): why for place, why in found.items()}


def _output(folder: Path) -> str | None:
    """What of ours the folder is, a run's directory or a result in a store; None if neither."""
    if (folder / "config.yaml").is_file() and any((folder / n).is_file() for n in _RUN_FILES):
        return "in the folder of a run"
    key = folder.name.partition(".")[0]  # what is being built has a suffix
    if KEY.fullmatch(key) and (key != folder.name or (folder / MANIFEST).is_file()):
        return "in a store"
    return None


def _copies(places: Sequence[PurePosixPath]) -> dict[PurePosixPath, str]:
    """Of files that are one but for their compression, all but the first.

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
    """Its name without the suffix of a compression."""
    return place.with_suffix("") if place.suffix in COMPRESSED else place

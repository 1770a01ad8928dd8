"""Maintenance of a store: finds damaged results and deletes unneeded ones."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from .integrity import DISCARDED, discard, find_damage, read_manifest, size_of
from .stage import KEY, LOCKS_FOLDER, NAME


@dataclass(frozen=True)
class Problem:
    """Damage of one published result."""

    stage: str
    key: str
    text: str

    def line(self) -> str:
        """A line for the terminal."""
        return f"{self.stage}/{self.key}: {self.text}"


@dataclass(frozen=True)
class Removable:
    """A folder to delete: an unneeded result, or the rest of an interrupted build or deletion.

    Attributes:
        path: the folder, named by the key; `.partial` marks an unfinished build.
        bytes: size of all its files.
    """

    path: Path
    bytes: int

    def line(self) -> str:
        """A line for the terminal."""
        return f"{self.path.parent.name}/{self.path.name}: {self.bytes / 1e6:,.1f} MB"


@dataclass(frozen=True)
class Garbage:
    """Deleted folders (with dry_run, folders to delete), and folders `in_use` by a build."""

    removed: list[Removable] = field(default_factory=list)
    in_use: list[Removable] = field(default_factory=list)

    @property
    def freed_bytes(self) -> int:
        """Bytes of all removed folders."""
        return sum(item.bytes for item in self.removed)


def verify(root: Path) -> list[Problem]:
    """Compares every published result with its checksums."""
    problems = []
    for folder, stage, key in _folders(root):
        if folder.name != key:
            continue  # an unfinished build has no manifest yet
        try:
            found = find_damage(folder, read_manifest(folder), checksums=True)
        except ValueError as error:
            found = [str(error)]
        problems += [Problem(stage, key, text) for text in found]
    return problems


def collect_garbage(root: Path, keep_keys: Set[tuple[str, str]], *, dry_run: bool) -> Garbage:
    """Deletes all results outside `keep_keys`, and the rests of interrupted builds and deletions.

    An unfinished build (`.partial`) of a kept key stays, because it can be resumed. Ancestors of a
    kept result are deleted unless they are in `keep_keys` too; `ancestry` lists them. A process
    that is reading a result cannot be detected.

    Args:
        root: the store; folders not named like a result stay.
        keep_keys: (stage, key) of the results to keep.
        dry_run: only list.
    """
    garbage = Garbage()
    for folder, stage, key in _folders(root):
        if (stage, key) in keep_keys and DISCARDED not in folder.name:
            continue
        item = Removable(folder, size_of(folder))
        lock = root / LOCKS_FOLDER / f"{stage}-{key}.lock"
        removed = _is_free(lock) if dry_run else _remove(lock, folder)
        (garbage.removed if removed else garbage.in_use).append(item)
    return garbage


def _is_free(lock: Path) -> bool:
    if not lock.exists():  # never locked; a dry run leaves no trace
        return True
    try:
        FileLock(lock).acquire(timeout=0).lock.release()
    except Timeout:
        return False
    return True


def _remove(lock: Path, folder: Path) -> bool:
    lock.parent.mkdir(exist_ok=True)
    try:
        with FileLock(lock).acquire(timeout=0):
            if folder.exists():  # else a build has just published or discarded it
                discard(folder)
    except Timeout:
        return False
    return True


def _folders(root: Path) -> Iterator[tuple[Path, str, str]]:
    """(folder, stage, key) of all results, finished or not; other folders are ignored."""
    for folder in sorted(root.glob("*/*")):
        stage, key = folder.parent.name, folder.name.split(".")[0]
        if folder.is_dir() and NAME.fullmatch(stage) and KEY.fullmatch(key):
            yield folder, stage, key

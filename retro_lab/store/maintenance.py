"""Looking after a store: what is damaged in it, and what nobody needs any more."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from .integrity import DISCARDED, discard, find_damage, read_manifest, size_of
from .stage import KEY, LOCKS_FOLDER, NAME


@dataclass(frozen=True)
class Problem:
    """What is wrong with one published result."""

    stage: str
    key: str
    text: str

    def line(self) -> str:
        """One line for people."""
        return f"{self.stage}/{self.key}: {self.text}"


@dataclass(frozen=True)
class Removable:
    """A folder that can go: an unneeded result, or what an interrupted build or deletion left.

    Attributes:
        path: the folder; its name is the key, with `.partial` for an unfinished build.
        bytes: size of all its files.
    """

    path: Path
    bytes: int

    def line(self) -> str:
        """One line for people."""
        return f"{self.path.parent.name}/{self.path.name}: {self.bytes / 1e6:,.1f} MB"


@dataclass(frozen=True)
class Garbage:
    """What was deleted, or with dry_run would be; `in_use` is being built and stays."""

    removed: list[Removable] = field(default_factory=list)
    in_use: list[Removable] = field(default_factory=list)

    @property
    def freed_bytes(self) -> int:
        """Bytes of all that was, or would be, deleted."""
        return sum(item.bytes for item in self.removed)


def verify(root: Path) -> list[Problem]:
    """Reads every published result and compares it with its checksums."""
    problems = []
    for folder, stage, key in _folders(root):
        if folder.name != key:
            continue  # an unfinished build proves nothing yet
        try:
            found = find_damage(folder, read_manifest(folder), checksums=True)
        except ValueError as error:
            found = [str(error)]
        problems += [Problem(stage, key, text) for text in found]
    return problems


def collect_garbage(root: Path, keep_keys: Set[tuple[str, str]], *, dry_run: bool) -> Garbage:
    """Deletes all results but those named, and what interrupted builds and deletions left.

    An unfinished build (`.partial`) of a kept key stays, because it can be resumed. Ancestors of
    a kept result go unless they are named too; `ancestry` names them. Whether a running process
    reads a result can't be known.

    Args:
        root: the store; what isn't named like a result in it is never touched.
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
            if folder.exists():  # else a build has published or discarded it since
                discard(folder)
    except Timeout:
        return False
    return True


def _folders(root: Path) -> Iterator[tuple[Path, str, str]]:
    """(folder, stage, key) of all results, finished or not; nothing else that may lie there."""
    for folder in sorted(root.glob("*/*")):
        stage, key = folder.parent.name, folder.name.split(".")[0]
        if folder.is_dir() and NAME.fullmatch(stage) and KEY.fullmatch(key):
            yield folder, stage, key

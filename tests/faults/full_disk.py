"""A disk that is full, at many sizes, and files that may not grow: one message, nothing lost."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fault_children import Ended, limit_file_size
from fault_counts import Counts, ending
from fault_world import Phase, World
from kills import judge

_PAGE = 4096
_ROOMY = 2**28


def full_disk(world: World, sizes: int, seed: int = 0, names: tuple[str, ...] = ()) -> list[Counts]:
    """Two rows: a small file system of its own, and a limit on the size of files.

    Args:
        names: of the phases that are struck; all if empty.
    """
    phases = [phase for phase in world.phases.values() if not names or phase.name in names]
    every = frozenset(phase.name for phase in phases)
    full, limited = Counts("disk full", must_hit=every), Counts("file too large", must_hit=every)
    rng = random.Random(seed)
    try:
        for phase in _in_turn(phases, sizes, full):
            _on_small_disk(world, phase, world.folder / "disk", rng.uniform(0, 0.9), full)
    except PermissionError as error:
        full.skipped = f"not tried: no file system may be mounted here ({error})"
    for phase in _in_turn(phases, sizes, limited):
        _with_limit(world, phase, int(2 ** rng.uniform(8, 15)), limited)
    return [full, limited]


def _in_turn(phases: list[Phase], times: int, counts: Counts) -> Iterator[Phase]:
    """The phases in turn until so many faults have struck, and each of them; or it is hopeless."""
    for number in range(4 * times):
        if counts.tried >= times and not counts.missed:
            return
        yield phases[number % len(phases)]


def _on_small_disk(world: World, phase: Phase, disk: Path, share: float, counts: Counts) -> None:
    """The phase with a share of the room that it takes, and again with enough."""
    had, needed = _blocks(phase.start), _blocks(phase.end)
    size = had + _PAGE * (2 + int(share * max(needed - had, 8 * _PAGE) / _PAGE))
    with _mounted(disk, size):
        folder = disk / "user"
        shutil.copytree(phase.start, folder)
        ended = world.do(phase.argv, folder)
        if ended.code == 0:
            return  # it fitted
        story = f"{phase.name} with {size // 1024} KB, {had // 1024} of them taken"
        _count_refused(ended, phase, story, counts)
        _mount("-o", f"remount,size={_ROOMY}", str(disk))
        judge(world, phase, folder, Ended(ended.code, ""), story, counts)


def _with_limit(world: World, phase: Phase, limit: int, counts: Counts) -> None:
    """The phase while no file may have more than `limit` bytes, and again without."""
    folder = world.folder / "limited"
    shutil.copytree(phase.start, folder)
    ended = world.do(phase.argv, folder, before=lambda: limit_file_size(limit))
    if ended.code != 0:
        story = f"{phase.name} with files of at most {limit:,} bytes"
        _count_refused(ended, phase, story, counts)
        judge(world, phase, folder, Ended(ended.code, ""), story, counts)
    shutil.rmtree(folder)


def _count_refused(ended: Ended, phase: Phase, story: str, counts: Counts) -> None:
    """A refused write is one message with exit code 2 and a path; of a sweep, one a point."""
    counts.tried += 1
    counts.hit[phase.name] += 1
    errors = [line for line in ended.said.splitlines() if line.startswith("error:")]
    of_points = [line for line in errors if line.startswith("error: in ")]
    if ended.has_traceback or ended.code != 2 or len(errors) != max(len(of_points), 1):
        counts.found("tracebacks", f"{story}: ends with {ended.code}: {ending(ended.said)}")
    for line in errors:
        if "/" not in line and "exported" not in line:
            counts.found("tracebacks", f"{story}: no path is named: {line}")


def _blocks(folder: Path) -> int:
    """Bytes that a folder's content takes in whole pages."""
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // _PAGE) * _PAGE for size in files)


@contextmanager
def _mounted(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PermissionError("mount is not there") from error
    except subprocess.CalledProcessError as error:
        raise PermissionError(error.stderr.strip()) from error

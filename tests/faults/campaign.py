"""All faults: how many of each, in the whole and in the slice that the default tests run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import fault_imports  # noqa: F401  (once here, not in every child)
from bit_flips import bit_flips
from concurrent_starts import concurrent_starts
from fault_counts import Counts
from fault_world import World
from full_disk import full_disk
from hostile_clients import hostile_clients
from kills import kills
from mutated_corpora import mutated_corpora
from odd_overrides import odd_overrides

Fault = Callable[..., list[Counts]]

FAULTS: dict[str, Fault] = {
    "kills": partial(kills, trials=110),
    "full_disk": partial(full_disk, sizes=20),
    "starts": partial(concurrent_starts, trials=12),
    "flips": partial(bit_flips, flips=1000),
    "overrides": partial(odd_overrides, lines=5000),
    "corpora": partial(mutated_corpora, files=2000),
    "clients": partial(hostile_clients, seconds=180),
}
SLICE: dict[str, Fault] = {
    "kills": partial(kills, trials=1, names=("train", "export")),
    "full_disk": partial(full_disk, sizes=1, names=("export",)),
    "flips": partial(bit_flips, flips=3),
    "overrides": partial(odd_overrides, lines=40),
    "corpora": partial(mutated_corpora, files=48),
    "clients": partial(hostile_clients, seconds=1),
}
"""What takes seconds; second starts have a test of their own in tests/app."""


def run_all(
    folder: Path, names: list[str], *, small: bool, seed: int, say: Callable[[str], object]
) -> list[Counts]:
    """The rows of the faults that are named, one after the other."""
    world = World(folder / "world", small=small)
    faults = SLICE if small else FAULTS
    rows: list[Counts] = []
    for name in names:
        if name in faults:
            say(f"{name} ...")
            rows += faults[name](world, seed=seed)
    return rows

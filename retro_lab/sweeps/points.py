"""The points of a sweep, and their list `sweep.json` in the folder of the runs.

The list holds overrides and run directory of each point of the last sweep, so that `report` can
name the points that have not begun.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .notes import read_note, write_note

SWEEP_FILE = "sweep.json"


@dataclass
class Point:
    """One point of a sweep.

    Attributes:
        run: name of its run directory; empty in `evaluate.py -m`.
        overrides: all command-line overrides of the point.
        error: reason of its failure, in one line; None if it did not fail.
    """

    run: str
    overrides: list[str]
    error: str | None = None


def read_points(folder: Path) -> list[Point]:
    """Points of the last sweep in a folder of runs; empty without a sweep.

    Raises:
        UserError: the list is damaged.
    """
    fix = "remove it; the next sweep writes it anew"
    found = read_note(folder / SWEEP_FILE, lambda note: [Point(**point) for point in note], fix)
    return found or []


def write_points(folder: Path, points: Sequence[Point]) -> None:
    """Writes `sweep.json` of a folder of runs, replacing an earlier list."""
    folder.mkdir(parents=True, exist_ok=True)
    write_note(folder / SWEEP_FILE, [asdict(point) for point in points])


def command(overrides: Sequence[str]) -> str:
    """The command line that trains a single point."""
    preset = any(override.startswith("sweep=") for override in overrides)
    # A preset of conf/sweep would start its whole sweep again.
    return shlex.join(["python", "train.py", *overrides, *["hydra.mode=RUN"] * preset])

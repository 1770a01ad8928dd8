"""The points of a sweep and the list of them, `sweep.json` in the folder of the runs.

The list holds the last sweep: the overrides and the run directory of each point, so that `report`
can name the points that have not begun.
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
        run: name of its run directory; empty in `evaluate.py -m`, where points have none.
        overrides: what tells it apart, and all else that the command line said.
        error: why it failed, in one line; None if it did not.
    """

    run: str
    overrides: list[str]
    error: str | None = None


def read_points(folder: Path) -> list[Point]:
    """Points of the last sweep into a folder of runs; none if there was no sweep.

    Raises:
        UserError: the list is damaged.
    """
    fix = "remove it; the next sweep writes it anew"
    found = read_note(folder / SWEEP_FILE, lambda note: [Point(**point) for point in note], fix)
    return found or []


def write_points(folder: Path, points: Sequence[Point]) -> None:
    """Replaces the list of a folder of runs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_note(folder / SWEEP_FILE, [asdict(point) for point in points])


def command(overrides: Sequence[str]) -> str:
    """The command line that trains a point by itself."""
    preset = any(override.startswith("sweep=") for override in overrides)
    # A preset of conf/sweep would start its whole sweep again.
    return shlex.join(["python", "train.py", *overrides, *["hydra.mode=RUN"] * preset])

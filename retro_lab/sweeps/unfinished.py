"""Unfinished runs of a folder: failed ones with their reason, and pending ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.run.directory import RunDirectory

from .failure import INTERRUPTED, one_line, read_failure
from .points import command, read_points

_TRACES = ("config.yaml", "status.json", "failure.json", "run.log")


@dataclass(frozen=True)
class Unfinished:
    """A run without results, or whose last attempt failed.

    Attributes:
        run: name of its directory.
        state: failed or pending.
        reason: one line.
        retry: the command that resumes the run; None if unknown.
    """

    run: str
    state: str
    reason: str
    retry: str | None

    def lines(self) -> list[str]:
        """The printed lines; the command takes one line, so that it can be copied."""
        return [f"{self.state:<8}{self.run}: {self.reason}", f"        {self.command}"]

    @property
    def command(self) -> str:
        """What to type to go on."""
        return self.retry or "the train.py command that began it, typed again"


def unfinished(folder: Path, names: Iterable[str] | None = None) -> list[Unfinished]:
    """The unfinished runs of a folder, failures first.

    Args:
        names: of the runs to check; None for all in the folder and in its last sweep.

    Raises:
        UserError: the list of the last sweep is damaged.
    """
    points = {point.run: point for point in read_points(folder)}
    if names is None:
        made = [path.parent.name for name in _TRACES for path in folder.glob(f"*/{name}")]
        names = {*made, *points}
    found = []
    for name in sorted(set(names)):
        state, reason, overrides = _state(folder / name)
        point = points.get(name)
        if point is not None and state == "pending" and point.error is not None:
            state, reason = "failed", point.error
        if state != "finished":
            overrides = overrides or (point.overrides if point is not None else None)
            retry = None if overrides is None else command(overrides)
            found.append(Unfinished(name, state, reason, retry))
    return sorted(found, key=lambda run: run.state)


def _state(folder: Path) -> tuple[str, str, list[str] | None]:
    """State, reason, and overrides if known."""
    run = RunDirectory(folder)
    try:
        failure = read_failure(folder)
        if failure is not None:
            state = "pending" if failure.reason == INTERRUPTED else "failed"
            return state, failure.reason, failure.overrides
        if run.results_file.is_file():
            return "finished", "", None
        state = run.state
    except (UserError, KeyError) as error:
        return "failed", one_line(error), None
    reason = {"new": "not begun", "trained": "trained, not evaluated"}.get(state, state)
    return "pending", reason, None

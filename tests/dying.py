"""Work that is cut short: by a death at one file event after the other, or by a limit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

EVENTS = ("open", "os.rename", "os.remove")
DEAD = 9


def in_a_child(work: Callable[[], object]) -> int:
    """Exit code of a child process that does `work`, as of `ended`."""
    return ended(started(work))


def started(work: Callable[[], object]) -> int:
    """Process id of a child that does `work`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    """0, 1 if its work raised, `DEAD` if it died, or the negative signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def on_events(folder: Path, at: Callable[[int, Path], None]) -> None:
    """From now on `at` is called before every event below `folder`, with its number, from 1: a file
    that is opened, renamed or removed.
    """
    seen = 0

    def hear(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in EVENTS and str(arguments[0]).startswith(str(folder)):
            seen += 1
            at(seen, Path(arguments[0]))

    sys.addaudithook(hear)


def die_at(number: int, folder: Path) -> None:
    """From now on this process dies before its event `number` below `folder`."""

    def die(seen: int, path: Path) -> None:
        if seen == number:
            os._exit(DEAD)

    on_events(folder, die)

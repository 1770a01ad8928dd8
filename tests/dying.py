"""Work that is cut short: by a death at one file event after the other, or by a limit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

EVENTS = ("open", "os.rename", "os.remove")
DEAD = 9


def in_a_child(work: Callable[[], object]) -> int:
    """Exit code of a child process that does `work`: 0, 1 if it raises, `DEAD` if it dies."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at(number: int, folder: Path) -> None:
    """From now on this process dies before its event `number`, from 1, below `folder`: a file that
    is opened, renamed or removed.
    """
    seen = 0

    def hear(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in EVENTS and str(arguments[0]).startswith(str(folder)):
            seen += 1
            if seen == number:
                os._exit(DEAD)

    sys.addaudithook(hear)

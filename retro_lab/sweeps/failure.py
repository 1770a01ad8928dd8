"""`failure.json` of a run: reason and overrides of its failed attempt, until the run succeeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from retro_lab.config.errors import UserError
from retro_lab.run.locked_folder import FAILURE_FILE, LOCK_FILE

from .notes import read_note, write_note

INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Failure:
    """A failed attempt to train a run.

    Attributes:
        reason: one line.
        overrides: arguments of `train.py`, for another attempt.
    """

    reason: str
    overrides: list[str]


@contextmanager
def failure_recorded(folder: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Writes `failure.json` into the run's directory if the block raises, else removes the file.

    Writes nothing while another process holds the run's lock.
    """
    path = folder / FAILURE_FILE
    try:
        yield
    except BaseException as error:
        failure = Failure(one_line(error), list(overrides))
        # The disk may be full; an error in writing must not hide the original one.
        with suppress(OSError, Timeout), FileLock(folder / LOCK_FILE, timeout=0):
            write_note(path, asdict(failure))
        raise
    path.unlink(missing_ok=True)


def read_failure(folder: Path) -> Failure | None:
    """The failure recorded in a run's directory; None without one.

    Raises:
        UserError: the file is damaged.
    """
    return read_note(folder / FAILURE_FILE, lambda note: Failure(**note), fix="remove it")


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, with its type unless it is a `UserError`."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    said = error.message if isinstance(error, UserError) else str(error)
    first = next(iter(said.strip().splitlines()), "")
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"

"""Progress of long loops: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

LOG = logging.getLogger("retro_lab")
Clock = Callable[[], float]
LOG_EVERY_SECONDS = 10.0
_live = False  # whether a bar is shown; a second bar would overwrite the first


@contextmanager
def track(
    total: int | None, what: str, unit: str, *, clock: Clock = time.monotonic
) -> Generator[Callable[[int], None]]:
    """Shows the progress of a loop; yields `advance(n)`, to be called with each step's count.

    A terminal shows a bar with count, rate and time left. Otherwise, and for a loop inside another
    with a bar, the log has lines at the start, about every 10 s and at the end. Other ranks and
    worker processes show nothing.

    Args:
        total: expected count; None if unknown.
        what: the activity, "embedding".
        unit: plural of the counted items, "chunks".
        clock: returns seconds.
    """
    if not _is_main_process():
        yield lambda count: None
    elif sys.stderr.isatty() and not _live:
        with _bar(total, what, unit, clock) as advance:
            yield advance
    else:
        with _lines(total, what, unit, clock) as advance:
            yield advance


@contextmanager
def _bar(total: int | None, what: str, unit: str, clock: Clock) -> Generator[Callable[[int], None]]:
    global _live
    # Imported here for a fast start: most processes never show a bar.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class CountColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            done = round(task.completed)
            return Text(f"{_done(done, total, unit)}, {rate(done, task.elapsed or 0.0, unit)}")

    label = TextColumn("{task.description}", markup=False)
    count = CountColumn(table_column=Column(no_wrap=True))
    columns = (label, BarColumn(bar_width=20), count, TimeRemainingColumn())
    done, start = 0, clock()
    _live = True
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(what, total=total)

            def advance(count: int) -> None:
                nonlocal done
                done += count
                progress.advance(task, count)

            yield advance
    finally:
        _live = False
    LOG.info("%s", _summary(what, done, clock() - start, unit))


@contextmanager
def _lines(
    total: int | None, what: str, unit: str, clock: Clock
) -> Generator[Callable[[int], None]]:
    done, start = 0, clock()
    last = start
    LOG.info("%s: %s", what, unit if total is None else counted(total, unit))

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = clock()
        if now - last < LOG_EVERY_SECONDS or done == total:  # the last line tells of the end
            return
        last = now
        left = ""
        if total is not None and 0 < done < total:
            left = f", {duration((now - start) * (total - done) / done)} left"
        LOG.info(
            "%s: %s, %s%s", what, _done(done, total, unit), rate(done, now - start, unit), left
        )

    try:
        yield advance
    except BaseException:
        LOG.info("%s: stopped after %s", what, _done(done, total, unit))
        raise
    LOG.info("%s", _summary(what, done, clock() - start, unit))


def rate(count: int, seconds: float, unit: str) -> str:
    """Formats `count` per second: "1,234 chunks/s", "0.8 chunks/s"."""
    value = count / max(seconds, 1e-9)
    return f"{value:,.0f} {unit}/s" if value >= 10 else f"{value:.1f} {unit}/s"


def duration(seconds: float) -> str:
    """Formats seconds: "0.4 s", "88 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _summary(what: str, done: int, seconds: float, unit: str) -> str:
    return f"{what}: {counted(done, unit)} in {duration(seconds)}, {rate(done, seconds, unit)}"


def _done(done: int, total: int | None, unit: str) -> str:
    return counted(done, unit) if total is None else f"{done:,} of {counted(total, unit)}"


def counted(number: int, unit: str) -> str:
    """A number of things: "1 block", "1 block of the database", "2,000 chunks".

    Args:
        unit: their plural; its first word ends in s.
    """
    first, *rest = unit.split(" ")
    if number == 1:
        first = first.removesuffix("es") if first == "indexes" else first.removesuffix("s")
    return " ".join([f"{number:,}", first, *rest])


def _is_main_process() -> bool:
    ranks = (os.environ.get(name, "0") for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return multiprocessing.parent_process() is None and all(rank == "0" for rank in ranks)

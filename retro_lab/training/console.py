"""Training progress on the console: a live bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from retro_lab.store.progress import duration

LOG = logging.getLogger(__name__)
_VALIDATION = "val/bpb"
_SHOWN = {
    "train/loss": "loss {:.3f}",
    _VALIDATION: "val bpb {:.3f}",
    "train/tokens_per_second": "{:,.0f} tokens/s",
}


class ConsoleLogger(Logger):
    """Shows step, loss, speed and time left whenever training logs metrics.

    Args:
        steps: number of the last step.
        start: steps done already.
        what: the bar's name.
        console: standard error by default.
    """

    def __init__(
        self, steps: int, start: int = 0, what: str = "training", console: Console | None = None
    ) -> None:
        super().__init__()
        self.steps = steps
        self.start = start
        self.what = what
        self._began = time.monotonic()
        self._figures: dict[str, float] = {}
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None

    @property
    def name(self) -> str:
        return "console"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Required by Lightning; shows nothing."""

    @rank_zero_only
    def open(self) -> None:
        """Starts the display."""
        self._began = time.monotonic()
        if not self._console.is_terminal:
            LOG.info("%s: from step %d to %d", self.what, self.start, self.steps)
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[figures]}", table_column=Column()),  # shrinks if narrow
            console=self._console,
        )
        self._progress.start()
        self._progress.add_task(self.what, total=self.steps, completed=self.start, figures="")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = step or 0
        self._figures |= metrics
        if self._progress is not None:
            task = self._progress.task_ids[0]
            self._progress.update(task, completed=step, figures=_summary(self._figures))
            return
        # Training and validation metrics of a step come one after the other: a line each, and no
        # figure twice.
        if new := _summary(metrics):
            line = f"{self.what}: step {step:,} of {self.steps:,}, {new}"
            left = "" if _VALIDATION in metrics or step >= self.steps else self._left(step)
            LOG.info("%s%s", line, left)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _left(self, step: int) -> str:
        done = max(step - self.start, 1)
        seconds = (time.monotonic() - self._began) * (self.steps - step) / done
        return f", {duration(seconds)} left"


def _summary(figures: Mapping[str, float]) -> str:
    """Loss, validation bits per byte and speed, as far as there are any."""
    return ", ".join(text.format(figures[k]) for k, text in _SHOWN.items() if k in figures)

"""Training from Python."""

from __future__ import annotations

from retro_lab.run.experiment import run_experiment
from retro_lab.run.timing import Stopwatch

from .composed import composed
from .run import Run


def train(*overrides: str) -> Run:
    """A run, trained and evaluated as by `python train.py <overrides>`; a finished one is opened.

    The compared models (baseline and plain) are trained first, unless they are there.

    Args:
        overrides: `key=value` of train.py, such as "model=small", "optim.lr=1e-3".

    Raises:
        UserError: an override is invalid, or the input cannot be used.
    """
    return Run.open(run_experiment(composed("train", overrides), Stopwatch()).path)

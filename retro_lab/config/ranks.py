"""Whether this process leads those that train one model together, by what their launcher set."""

from __future__ import annotations

import os

from .schema import TrainerConfig

_NUMBERS = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")


def leads(trainer: TrainerConfig) -> bool:
    """Whether this is the only process of a run, or the one that writes, evaluates and reports."""
    alone = trainer.devices * trainer.num_nodes == 1
    return alone or all(os.environ.get(name, "0") == "0" for name in _NUMBERS)

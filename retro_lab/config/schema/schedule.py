"""Group `schedule`: how long training lasts and how the learning rate moves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Decay(Enum):
    """Shape of the learning rate after warm-up."""

    cosine = "cosine"
    constant = "constant"


@dataclass
class ScheduleConfig:
    """Training length and shape.

    Attributes:
        steps: optimiser steps.
        batch_size: sequences a step, over all devices and accumulation.
        warmup_steps: linear warm-up from zero.
        decay: shape after warm-up.
        final_ratio: learning rate at the end, as a share of the peak.
    """

    name: str = "cosine"
    steps: int = 400
    batch_size: int = 8
    warmup_steps: int = 20
    decay: Decay = Decay.cosine
    final_ratio: float = 0.1

"""Learning-rate schedule: linear warm-up, then cosine decay or constant."""

from __future__ import annotations

import math
from collections.abc import Callable

from retro_lab.config.schema import Decay


def learning_rate_factor(
    *, steps: int, warmup_steps: int, decay: Decay, final_ratio: float
) -> Callable[[int], float]:
    """A function from step (from 0) to share of the peak learning rate.

    Warm-up step s has share (s + 1) / (warmup_steps + 1), so that step 0 is above zero and the peak
    follows the warm-up. Cosine decay then falls to `final_ratio` at step `steps`.

    Source: RETRO's recipe (linear warm-up, cosine to a tenth of the peak).
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if decay is Decay.constant:
            return 1.0
        done = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
        return final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * done)) / 2

    return factor

"""Contract of the schedule: a linear warm-up that wastes no step, then cosine or constant."""

from __future__ import annotations

import pytest

from retro_lab.config.schema import Decay
from retro_lab.training.schedules import learning_rate_factor


def factors(decay=Decay.cosine, steps=10, warmup_steps=4, final_ratio=0.1) -> list[float]:
    factor = learning_rate_factor(
        steps=steps, warmup_steps=warmup_steps, decay=decay, final_ratio=final_ratio
    )
    return [factor(step) for step in range(steps + 1)]


def test_warm_up_is_linear_and_starts_above_zero():
    assert factors()[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_falls_from_the_peak_to_the_final_share():
    values = factors()
    assert values[4] == 1.0
    assert values[7] == pytest.approx(0.55)  # half way
    assert values[10] == pytest.approx(0.1)
    assert values[4:] == sorted(values[4:], reverse=True)


def test_constant_stays_at_the_peak():
    assert factors(Decay.constant)[4:] == [1.0] * 7


def test_no_warm_up_and_warm_up_as_long_as_training():
    assert factors(warmup_steps=0)[0] == 1.0
    assert max(factors(steps=4, warmup_steps=4)[:4]) == pytest.approx(0.8)

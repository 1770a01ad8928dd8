"""Contract of the intervals: the same seed gives the same ones, they cover the truth as often as
they say, pairing cancels what conditions share, and too few documents give none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retro_lab.evaluation.measure.statistics import (
    FEWEST,
    Bootstrap,
    bits_per_byte_intervals,
    resampled_sums,
)

PAIR = ("on", "baseline")


def documents(
    count: int, seed: int, gain: float = 0.05
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Documents of very unequal length, hard and easy ones, and a noisy gain in bits per byte."""
    rng = np.random.default_rng(seed)
    num_bytes = np.ceil(rng.lognormal(6, 0.7, count)).astype(int)
    difficulty = rng.normal(2.0, 0.5, count)
    gains = rng.normal(gain, 0.1, count)
    bits = num_bytes * math.log(2)
    return {"baseline": bits * difficulty, "on": bits * (difficulty - gains)}, num_bytes


def interval(count: int, seed: int, bootstrap: Bootstrap) -> tuple[float, float]:
    nats, num_bytes = documents(count, seed)
    found = bits_per_byte_intervals(nats, num_bytes, [PAIR], bootstrap)[PAIR]
    assert found is not None
    return found


def test_same_seed_same_interval_other_seed_another() -> None:
    first = interval(40, 0, Bootstrap(300, 0.95, seed=1))
    assert interval(40, 0, Bootstrap(300, 0.95, seed=1)) == first
    assert interval(40, 0, Bootstrap(300, 0.95, seed=2)) != first


def test_blocks_do_not_change_the_resamples() -> None:
    sums = np.random.default_rng(0).random((17, 3))
    whole = resampled_sums(sums, Bootstrap(50))
    in_blocks = resampled_sums(sums, Bootstrap(50), at_once=17 * 8)
    assert np.allclose(in_blocks, whole, rtol=1e-13)


def test_resamples_draw_as_many_documents_as_there_are() -> None:
    sums = np.stack([np.ones(11), np.arange(11.0)], axis=1)
    resampled = resampled_sums(sums, Bootstrap(4000))
    assert (resampled[:, 0] == 11).all()
    assert resampled[:, 1].mean() == pytest.approx(55, rel=0.01)
    assert resampled[:, 1].var() == pytest.approx(11 * np.arange(11).var(), rel=0.1)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_cover_the_truth_as_often_as_they_say(confidence: float) -> None:
    trials, covered = 250, 0
    for seed in range(trials):
        low, high = interval(60, seed, Bootstrap(300, confidence, seed))
        covered += low <= -0.05 <= high
    # Three standard errors, and two points less for percentile intervals of 60 documents.
    slack = 3 * math.sqrt(confidence * (1 - confidence) / trials)
    assert confidence - slack - 0.02 <= covered / trials <= confidence + slack


@pytest.mark.parametrize("count", [FEWEST, 8, 12])
def test_intervals_of_few_documents_are_wide_enough(count: int) -> None:
    trials, covered = 600, 0
    for seed in range(trials):
        low, high = interval(count, seed, Bootstrap(300, 0.95, seed))
        covered += low <= -0.05 <= high
    assert covered / trials >= 0.88  # plain percentile intervals of 5 and 8 are below 0.85


def test_pairing_cancels_the_difficulty_of_documents() -> None:
    nats, num_bytes = documents(30, 0)
    nats["on"] = nats["baseline"] - 0.1 * math.log(2) * num_bytes
    found = bits_per_byte_intervals(nats, num_bytes, [PAIR], Bootstrap(200))[PAIR]
    assert found == pytest.approx((-0.1, -0.1), abs=1e-12)


def test_equal_conditions_differ_by_exactly_nothing() -> None:
    nats, num_bytes = documents(30, 0)
    nats["on"] = nats["baseline"].copy()
    assert bits_per_byte_intervals(nats, num_bytes, [PAIR], Bootstrap(200))[PAIR] == (0.0, 0.0)


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1])
def test_too_few_documents_have_no_interval(count: int) -> None:
    nats, num_bytes = documents(count, 0)
    assert bits_per_byte_intervals(nats, num_bytes, [PAIR], Bootstrap())[PAIR] is None


def test_documents_without_bytes_have_no_interval() -> None:
    nats = {"on": np.ones(9), "baseline": np.ones(9)}
    assert bits_per_byte_intervals(nats, np.zeros(9), [PAIR], Bootstrap(20))[PAIR] is None

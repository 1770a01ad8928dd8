"""Contract: fitting finds an expert that is right, gains nothing from evidence about other tokens,
keeps the gate of the best epoch, and depends on its seed alone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_mixture import EXPERTS, Dense, shares_of

from retro_lab.memory.fitting import PATIENCE, fit
from retro_lab.memory.gate import Gate
from retro_lab.memory.readings import Readings

SETS = (6, 20_000), (7, 3000), (8, 3000)
"""Seed and tokens of training, of validation, and of what is held out."""


def gain(gate: Gate, held_out: Readings) -> float:
    """Nats a token below those of the model."""
    return float((held_out.nats - gate.nats(held_out)).mean())


def test_fitting_finds_an_expert_that_is_right() -> None:
    training, validation, held_out = (Dense(*each).readings() for each in SETS)
    found = fit(training, validation, seed=0)
    assert gain(found.gate, held_out) > 0.5
    untrained = Gate(training.features.shape[1], EXPERTS)
    assert gain(found.gate, held_out) > 2 * gain(untrained, held_out)
    assert min(found.nats) == pytest.approx(found.gate.nats(validation).mean())
    assert found.nats[0] > min(found.nats) + 0.3
    shares = shares_of(found.gate, held_out)
    assert shares[:, 1][held_out.present[:, 0] & (held_out.features[:, 3] > 3)].mean() > 0.5
    assert shares[:, 2:].mean() < 0.05


def test_evidence_about_other_tokens_gains_nothing() -> None:
    """Experts that say what they say about some other token."""

    def unrelated(seed: int, tokens: int) -> Readings:
        rows = np.random.default_rng(seed).permutation(tokens)
        return Dense(seed, tokens).readings(rows)

    training, validation, held_out = (unrelated(*each) for each in SETS)
    assert abs(gain(fit(training, validation, seed=0).gate, held_out)) < 0.01


def test_answers_about_other_tokens_are_no_control() -> None:
    """Moved alone, they belong to no distribution: the mixture doesn't sum to one, and gains."""

    def moved(seed: int, tokens: int) -> Readings:
        readings = Dense(seed, tokens).readings()
        rows = np.random.default_rng(seed).permutation(tokens)
        return readings._replace(probability=readings.probability[rows])

    training, validation, held_out = (moved(*each) for each in SETS)
    assert gain(fit(training, validation, seed=0).gate, held_out) > 0.1


def test_a_seed_says_all() -> None:
    training, validation = Dense(12, 1500).readings(), Dense(13, 500).readings()
    state = torch.random.get_rng_state()
    first, again, other = (fit(training, validation, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.nats == again.nats
    assert first.nats != other.nats
    ours, theirs = first.gate.state_dict(), again.gate.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_fitting_keeps_the_gate_of_the_best_epoch() -> None:
    """Of validation that training leads astray, that is the untrained one."""
    training, validation = Dense(14, 2000).readings(), Dense(15, 500).readings()
    astray = validation._replace(probability=np.zeros_like(validation.probability))
    found = fit(training, astray, seed=0)
    assert found.nats[0] == min(found.nats) == pytest.approx(found.gate.nats(astray).mean())
    assert len(found.nats) == 1 + PATIENCE

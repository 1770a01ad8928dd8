"""Contract: the shares of the model and of the experts that have a distribution sum to one, and the
mixture is what they say; a gate sees all of the evidence but the answer.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_mixture import EXPERTS, FEATURES, VOCABULARY, Dense, shares_of

from retro_lab.memory.gate import Gate, mixture_nats
from retro_lab.memory.memory import FittedGate, Memory
from retro_lab.memory.readings import ModelView, Readings, input_names


class Named:
    """The experts of `Dense` as a kind of a memory."""

    name, needs_states = "e", False
    experts = tuple(f"e:{number}" for number in range(EXPERTS))
    features = tuple(f"e:f{number}" for number in range(FEATURES))


def shaken_gate(readings: Readings, seed: int = 0) -> Gate:
    """A gate whose shares differ from token to token."""
    gate = Gate(readings.features.shape[1], EXPERTS)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in gate.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 2)
    gate.standardise(torch.from_numpy(readings.features))
    return gate


def test_shares_sum_to_one_over_those_present() -> None:
    readings = Dense(0).readings()
    shares = shares_of(shaken_gate(readings), readings)
    assert shares.shape == (400, EXPERTS + 1)
    assert shares.sum(1) == pytest.approx(1, abs=1e-6)
    assert (shares[:, 1:][~readings.present] == 0).all()
    assert (shares[:, 0] > 0).all()
    assert (shares[:, 1:][readings.present] > 0).all()
    assert shares[:, 0].std() > 0.1
    double = shaken_gate(readings).log_shares(readings).exp().numpy()
    assert double.sum(1) == pytest.approx(1, abs=1e-12)
    assert double == pytest.approx(shares, abs=1e-6)


def test_nats_are_those_of_the_dense_mixture() -> None:
    dense = Dense(1)
    readings = dense.readings()
    gate = shaken_gate(readings)
    shares = shares_of(gate, readings)
    mixture = shares[:, :1] * dense.model + np.einsum("te,tev->tv", shares[:, 1:], dense.experts)
    assert mixture.sum(1) == pytest.approx(1, abs=1e-6)
    nats = -np.log(mixture[np.arange(400), dense.targets])
    assert gate.nats(readings) == pytest.approx(nats, abs=1e-6)
    alone = torch.tensor([[0.0, *[-np.inf] * EXPERTS]], dtype=torch.float64).expand(400, -1)
    assert mixture_nats(alone, readings).numpy() == pytest.approx(readings.nats)


def test_the_parts_of_a_token_are_those_of_the_dense_mixture() -> None:
    dense = Dense(1)
    readings, memory = dense.readings(), Memory([Named()])
    fitted = FittedGate(shaken_gate(readings), memory.experts, memory.inputs)
    share, leading = fitted.paid(readings, memory)
    row, shares = np.arange(400), shares_of(fitted.gate, readings)
    model = shares[:, 0] * dense.model[row, dense.targets]
    experts = shares[:, 1:] * dense.experts[row, :, dense.targets]
    assert share.dtype == np.float32
    assert share == pytest.approx(1 - model / (model + experts.sum(1)), abs=1e-6)
    named = np.where(model > experts.sum(1), -1, experts.argmax(1))
    assert leading.tolist() == named.tolist()
    assert len(set(named)) > 2
    nothing = readings._replace(probability=np.zeros_like(readings.probability))
    assert not fitted.paid(nothing, memory)[0].any()


def test_experts_that_give_the_token_nothing_leave_the_model() -> None:
    readings = Dense(2).readings()
    nothing = readings._replace(probability=np.zeros_like(readings.probability))
    gate = shaken_gate(readings)
    expected = readings.nats - np.log(shares_of(gate, readings)[:, 0])
    assert gate.nats(nothing) == pytest.approx(expected, rel=1e-6)
    absent = nothing._replace(present=np.zeros_like(readings.present))
    assert gate.nats(absent) == pytest.approx(readings.nats)


def test_an_untrained_gate_mostly_trusts_the_model() -> None:
    readings = Dense(3).readings()
    shares = shares_of(Gate(readings.features.shape[1], EXPERTS), readings)
    assert shares[:, 0].min() > 0.8
    there = shares[:, 1:][readings.present]
    assert there.min() > 0.01
    assert there.max() < 0.06


def test_a_view_is_that_of_the_distribution() -> None:
    dense = Dense(4)
    favourites = dense.evidence().favourite
    view = ModelView.of(torch.from_numpy(dense.model).log(), dense.targets, favourites)
    row, logs = np.arange(400), np.log(dense.model)
    assert view.nats == pytest.approx(-logs[row, dense.targets], abs=1e-5)
    assert view.entropy == pytest.approx(-(dense.model * logs).sum(1), abs=1e-5)
    assert view.top == pytest.approx(logs.max(1), abs=1e-5)
    assert np.array_equal(view.favourite, dense.model.argmax(1))
    expected = np.where(favourites >= 0, logs[row[:, None], favourites.clip(0)], 0)
    assert view.of_favourites == pytest.approx(expected, abs=1e-5)


def test_features_hold_the_view_and_the_evidence_but_not_the_answer() -> None:
    dense = Dense(5)
    readings, evidence = dense.readings(), dense.evidence()
    view = ModelView.of(torch.from_numpy(dense.model).log(), dense.targets, evidence.favourite)
    experts, features = [f"e:{n}" for n in range(EXPERTS)], [f"e:f{n}" for n in range(FEATURES)]
    names = input_names(experts, features)
    column = dict(zip(names, readings.features.T, strict=True))
    agrees = evidence.favourite == view.favourite[:, None]
    assert column["model:entropy"] == pytest.approx(view.entropy)
    assert column["model:top"] == pytest.approx(view.top)
    assert column["model:place"] == pytest.approx(np.log1p(np.arange(400)))
    for number, name in enumerate(features):
        assert np.array_equal(column[name], evidence.features[:, number])
    for number, name in enumerate(experts):
        log_probability = view.of_favourites[:, number]
        assert column[f"{name}_log_probability"] == pytest.approx(log_probability)
        assert np.array_equal(column[f"{name}_agrees"], agrees[:, number])
    dense.targets = (dense.targets + 1) % VOCABULARY
    other = dense.readings()
    assert np.array_equal(other.features, readings.features)
    assert not np.array_equal(other.nats, readings.nats)
    assert Readings.stacked([readings, other]).features.shape == (800, len(names))

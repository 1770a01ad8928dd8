"""Contract: the ensemble and the mixture with an earlier layer score a distribution over the
vocabulary, from the text so far alone; the earlier layer's read-out is that of the shortened
model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from rival_text import PAD, small_model, small_store, subset_of

from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.nn import Retro
from retro_lab.rivals import ensemble, intermediate
from retro_lab.rivals.knn_lm import mixed_nats
from retro_lab.rivals.states import token_nats

WEIGHT = 0.3
MODEL, OTHER = small_model(), small_model(seed=1)


def shortened() -> Retro:
    """The first layer of the model, under its final norm and output layer."""
    short = Retro(dataclasses.replace(MODEL.config, num_layers=1)).eval()
    short.load_state_dict(MODEL.state_dict(), strict=False)
    return short


def two_models(subset: Subset) -> np.ndarray:
    first, second = (token_nats(model, subset, 3) for model in (MODEL, OTHER))
    return mixed_nats(first, -second, WEIGHT)


def two_layers(subset: Subset) -> np.ndarray:
    nats = intermediate.nats_by_layer(MODEL, subset, 3)
    return mixed_nats(nats[-1], -nats[0], WEIGHT)


RIVALS = [(two_models, OTHER), (two_layers, shortened())]


@pytest.mark.parametrize(("rival", "second"), RIVALS, ids=["ensemble", "intermediate"])
def test_the_mixture_sums_to_one(rival: Callable, second: Retro) -> None:
    """The last token of a document is each of the vocabulary in turn, but padding."""
    store = small_store()
    one = subset_of(store, "test").documents[:1]
    text = subset_of(store, "test").tokens_of(int(one[0]))
    place = np.unravel_index(
        subset_of(store, "test").first_chunk(int(one[0])) * 4 + len(text) - 1, store.tokens.shape
    )
    total = 0.0
    for token in range(PAD):
        store.tokens[place] = token
        total += np.exp(-rival(subset_of(store, "test").only(one))[-1])
    read = torch.from_numpy(text[None, 24:-1])  # the last window begins at its third chunk pair
    padding = [model(read)[0, -1].softmax(-1)[PAD].item() for model in (MODEL, second)]
    assert total + np.average(padding, weights=[1 - WEIGHT, WEIGHT]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("rival", "second"), RIVALS, ids=["ensemble", "intermediate"])
def test_later_text_changes_no_earlier_score(rival: Callable, second: Retro) -> None:
    subset, changed = subset_of(small_store(), "test"), small_store()
    document = int(subset.documents[0])
    last = subset.first_chunk(document) + 5
    changed.tokens[last, :] = 7
    before, after = rival(subset), rival(subset_of(changed, "test"))
    earlier = np.repeat(subset.rows, subset.tokens) < last
    assert np.allclose(before[earlier], after[earlier], rtol=1e-6)
    assert not np.allclose(before[~earlier], after[~earlier], rtol=1e-3)


def test_an_earlier_layers_read_out_is_the_shortened_models() -> None:
    subset = subset_of(small_store(), "test")
    nats = intermediate.nats_by_layer(MODEL, subset, 3)
    assert np.allclose(nats[0], token_nats(shortened(), subset, 3), rtol=1e-4)
    assert np.allclose(nats[1], token_nats(MODEL, subset, 3), rtol=1e-5)


def test_tuning_takes_the_best_share() -> None:
    subset = subset_of(small_store(), "validation")
    first, second = (token_nats(model, subset, 3) for model in (MODEL, OTHER))
    weights = [0.0, 0.3, 0.6, 0.9]
    sums = [mixed_nats(first, -second, weight).sum() for weight in weights]
    tuning = ensemble.tune(subset, first, second, weights, time.perf_counter())
    assert tuning.chosen == {"weight": weights[int(np.argmin(sums))]}
    layers = intermediate.nats_by_layer(MODEL, subset, 3)
    found = intermediate.tune(subset, layers, weights, time.perf_counter())
    assert {trial["layer"] for trial in found.trials} == {1}

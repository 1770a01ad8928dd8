"""Contract: a rival's scores are those of distributions over the vocabulary, asked for at sampled
places by another way than the scores; what is none is told apart."""

from __future__ import annotations

import numpy as np
import pytest
from rival_text import SIZE, VOCABULARY, small_model, small_store, subset_of
from test_fast_weights import MODEL, RATE, SCALES, search_of
from test_knn_lm import open_datastore
from test_ralm import bm25

from retro_lab.evaluation.compressors.outcome import Outcome, Tuning
from retro_lab.evaluation.measure.normalisation import agreement
from retro_lab.rivals import dynamic_evaluation, intermediate, knn_lm, ralm, ttt_neighbours
from retro_lab.rivals.knn_lm import mixed_nats
from retro_lab.rivals.places import Places, checked, mixed, next_tokens
from retro_lab.rivals.states import token_nats
from retro_lab.rivals.ttt_neighbours import Setting

TEST = subset_of(small_store(), "test")
PLACES = Places.drawn(TEST, SIZE)


def passes(nats: np.ndarray, log_probs: np.ndarray, places: Places = PLACES) -> bool:
    outcome = Outcome.by_token(places.subset, nats, tuning=Tuning(), seconds=0.0)
    return checked(outcome, places, log_probs).facts["distribution"]["passed"]


def test_sums_and_scores_must_agree() -> None:
    logs = np.log(np.random.default_rng(0).dirichlet(np.ones(9), 4))
    tokens = np.array([0, 3, 8, 8])
    nats = -logs[np.arange(4), tokens]
    found = agreement(logs, tokens, nats)
    assert found.passed
    assert (found.places, found.total) == (4, pytest.approx(1))
    more = logs + np.array([0, 0, 0.2, -0.1])[:, None]
    found = agreement(more, tokens, -more[np.arange(4), tokens])
    assert not found.passed
    assert found.total == pytest.approx(np.exp(0.2))
    found = agreement(logs, tokens, nats - np.array([0, 0.5, 0, 0]))
    assert not found.passed
    assert found.gap == pytest.approx(0.5)


def test_places_are_scored_tokens_after_their_context() -> None:
    scored = np.concatenate([TEST.tokens_of(d)[1:] for d in TEST.documents.tolist()])
    assert len(PLACES.blocks) == 8
    assert np.array_equal(PLACES.tokens, scored[PLACES.numbers])
    for block, context in zip(PLACES.blocks, PLACES.contexts, strict=True):
        assert len(context) == block.start - block.context


def test_a_models_scores_are_of_its_distributions() -> None:
    assert passes(token_nats(MODEL, TEST, 3), next_tokens(MODEL, PLACES.contexts))
    assert not passes(token_nats(MODEL, TEST, 3), next_tokens(small_model(1), PLACES.contexts))


def test_a_mixture_sums_to_one_and_one_of_two_whole_models_does_not() -> None:
    models = (MODEL, small_model(1))
    first, second = (token_nats(model, TEST, 3) for model in models)
    logs = [next_tokens(model, PLACES.contexts) for model in models]
    assert passes(mixed_nats(first, -second, 0.3), mixed(*logs, 0.3))
    assert passes(mixed_nats(first, -second, 0.0), mixed(*logs, 0.0))
    assert not passes(-np.logaddexp(-first, -second), np.logaddexp(*logs))


def test_an_earlier_layer_mixed_in() -> None:
    nats = intermediate.nats_by_layer(MODEL, TEST, 3)
    logs = intermediate.log_probs(MODEL, PLACES.contexts, 1, 0.4)
    assert passes(mixed_nats(nats[1], -nats[0], 0.4), logs)


def test_knn_lm_and_ralm_ask_themselves(tmp_path) -> None:
    setting = {"neighbours": 5, "temperature": 20.0, "weight": 0.3}
    store = open_datastore(tmp_path)
    found = [knn_lm.score(small_model(), store, TEST, Tuning(setting), 2)]
    setting = {"query_length": 8, "continuation": 1}
    found.append(ralm.score(MODEL, bm25(small_store()), TEST, 4, Tuning(setting), 3))
    assert [each.facts["distribution"]["passed"] for each in found] == [True, True]


def test_neighbours_tokens_add_up() -> None:
    distances = np.array([[0, 1, np.inf], [np.inf] * 3], np.float32)
    tokens = np.array([[4, 4, -1], [-1] * 3], np.int32)
    found = knn_lm.knn_distributions(distances, tokens, 1.0, VOCABULARY)
    assert found[0, 4] == pytest.approx(1)
    assert found.sum() == pytest.approx(1), "nothing found is no probability"


def test_weights_that_change_are_those_at_the_place() -> None:
    nats = dynamic_evaluation.nats_by_token(MODEL, SCALES, TEST, SIZE, RATE)
    assert passes(nats, dynamic_evaluation.log_probs(MODEL, SCALES, PLACES, SIZE, RATE))
    assert not passes(nats, next_tokens(MODEL, PLACES.contexts))
    found = ttt_neighbours.texts_of(search_of(TEST.store), TEST, 1)
    setting = Setting(2, RATE)
    taught = ttt_neighbours.nats_by_token(MODEL, SCALES, TEST, found, setting).nats
    assert passes(taught, ttt_neighbours.log_probs(MODEL, SCALES, PLACES, found, setting))
    assert not passes(taught, next_tokens(MODEL, PLACES.contexts))

"""Contract: a segment is scored before it is learned, from the document so far (dynamic evaluation)
or from neighbours that the text before it finds (test-time training), never from later text. The
trained weights are back where a document (or a chunk) begins and at the end, and what is scored is
a distribution over the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from rival_text import SIZE, VOCABULARY, small_model, small_store, subset_of
from test_ralm import bm25

from retro_lab.config.errors import UserError
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.retrieval.new_text import NewTextSearch, ReadPart, SearchedStore
from retro_lab.rivals import dynamic_evaluation, ttt_neighbours
from retro_lab.rivals.blocks import blocks_of
from retro_lab.rivals.fast_weights import check_finite, fast_weights, gradient_scales
from retro_lab.rivals.states import token_nats
from retro_lab.rivals.ttt_neighbours import Setting
from retro_lab.text.chunks import ChunkStore

RATE, CHANGED_FROM = 0.01, 5
MODEL = small_model()
SCALES = gradient_scales(MODEL, subset_of(small_store(), "train"))


@pytest.fixture(autouse=True)
def weights_are_put_back() -> Iterator[None]:
    before = [weight.detach().clone() for weight in MODEL.parameters()]
    yield
    assert all(torch.equal(*pair) for pair in zip(before, MODEL.parameters(), strict=True))


def dynamic(subset: Subset, rate: float = RATE) -> np.ndarray:
    return dynamic_evaluation.nats_by_token(MODEL, SCALES, subset, SIZE, rate)


def search_of(store: ChunkStore, splits: tuple[str, ...] = ("train",)) -> NewTextSearch:
    text = SearchedStore(cast(Any, store), [], cast(Any, None))
    return NewTextSearch(text, ReadPart(2, 1, slice(None)), bm25(store, splits))


def taught(subset: Subset, rate: float = RATE) -> np.ndarray:
    found = ttt_neighbours.texts_of(search_of(subset.store), subset, 1)
    assert sum(map(len, found)) > 5
    setting = Setting(2, rate)
    return ttt_neighbours.nats_by_token(MODEL, SCALES, subset, found, setting).nats


@pytest.mark.parametrize("rival", [dynamic, taught])
def test_later_text_changes_no_earlier_score(rival) -> None:
    subset, changed = subset_of(small_store(), "test"), small_store()
    document = int(subset.documents[0])
    last = subset.first_chunk(document) + CHANGED_FROM
    changed.tokens[last : subset.first_chunk(document + 1)][
        changed.tokens[last : subset.first_chunk(document + 1)] != changed.pad_id
    ] = 7
    before, after = rival(subset), rival(subset_of(changed, "test"))
    chunk = np.repeat(subset.rows, subset.tokens)
    own = np.repeat(subset.document, subset.tokens) == document
    earlier, later = own & (chunk < last), own & (chunk >= last)
    assert np.array_equal(before[earlier], after[earlier])
    assert not np.allclose(before[later], after[later], rtol=1e-3)
    assert np.array_equal(before[~own], after[~own]), "no document tells of another"


@pytest.mark.parametrize("rival", [dynamic, taught])
def test_without_a_rate_it_is_the_baseline(rival) -> None:
    subset = subset_of(small_store(), "test")
    assert np.allclose(rival(subset, 0.0), token_nats(MODEL, subset, 3), rtol=1e-5)
    assert not np.allclose(rival(subset), token_nats(MODEL, subset, 3), rtol=1e-3)


def test_the_first_segment_is_scored_before_it_is_learned() -> None:
    subset = subset_of(small_store(), "test")
    blocks = blocks_of(subset, SIZE)
    first = np.concatenate([[b.start == 1] * (b.stop - b.start) for b in blocks])
    own, found = token_nats(MODEL, subset, 3), dynamic(subset)
    assert np.allclose(found[first], own[first], rtol=1e-5)
    assert not np.allclose(found[~first], own[~first], rtol=1e-3)


def test_what_was_scored_is_learned() -> None:
    """A document that repeats itself costs less than without steps."""
    store = small_store()
    subset = subset_of(store, "test")
    document = int(subset.documents[0])
    first, end = subset.first_chunk(document), subset.first_chunk(document + 1) - 1
    store.tokens[first + 1 : end] = [3, 11, 27, 5]
    one = subset_of(store, "test").only(np.array([document]))
    assert dynamic(one).sum() < 0.9 * dynamic(one, 0.0).sum()


def test_what_is_scored_after_a_step_sums_to_one() -> None:
    subset = subset_of(small_store(), "test")
    text = subset.tokens_of(int(subset.documents[0]))[:9]
    with fast_weights(MODEL, SCALES) as fast:
        fast.step(fast.nats(text, 4), RATE)
        nats = [fast.nats(np.append(text, y), 1).item() for y in range(VOCABULARY)]
    assert np.exp(-np.array(nats)).sum() == pytest.approx(1, abs=1e-5)


def test_steps_that_diverge_are_not_chosen() -> None:
    subset = subset_of(small_store(), "validation")
    tuning = dynamic_evaluation.tune(MODEL, SCALES, subset, SIZE, [1e30, 0.0])
    assert tuning.chosen == {"rate": 0.0}
    assert tuning.trials[0] == {"rate": 1e30, "bits_per_byte": None}
    with pytest.raises(UserError, match="none of the settings"):
        dynamic_evaluation.tune(MODEL, SCALES, subset, SIZE, [1e30])
    with pytest.raises(UserError, match=r"leave it out of eval\.rivals\.dynamic\.rates"):
        check_finite(dynamic(subset, 1e30), "eval.rivals.dynamic.rates")


def test_no_chunk_of_the_own_document_is_learned_from() -> None:
    """The database holds the queries' own chunks, which would match best."""
    store = small_store()
    subset = subset_of(store, "train")
    blocks = blocks_of(subset, SIZE)
    search = search_of(store, ("train", "validation", "test"))
    ids = ttt_neighbours.neighbours_of(search, subset, blocks)
    own = np.array([block.document for block in blocks])
    found = ids >= 0
    assert found.sum() > 20
    assert (store.document[ids] != own[:, None])[found].all()
    assert not found[[block.start == 1 for block in blocks]].any(), "a boundary is no query"


def test_tuning_reads_no_test_text_and_takes_the_best() -> None:
    store = small_store()
    search = search_of(store)
    store.tokens[store.chunks_of("test")] = 60_000  # no embedding has this token
    subset = subset_of(store, "validation")
    found = ttt_neighbours.texts_of(search, subset, 1)
    settings = [Setting(1, 0.0), Setting(1, RATE), Setting(2, RATE)]
    for tuning in (
        ttt_neighbours.tune(MODEL, SCALES, subset, found, settings),
        dynamic_evaluation.tune(MODEL, SCALES, subset, SIZE, [0.0, RATE, 10 * RATE]),
    ):
        assert len(tuning.trials) == 3
        best = min(tuning.trials, key=lambda trial: trial["bits_per_byte"])
        assert best.items() >= tuning.chosen.items()

"""Contract: the own-document cache counts what followed the same tokens earlier in the document,
however long it is, and nothing from its own place on.
"""

from __future__ import annotations

import numpy as np
import pytest
from counted_world import histograms
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_database import (
    BOUNDARY,
    LETTERS,
    VOCABULARY,
    SmallDatabase,
    context_at,
    in_order,
    random_documents,
)

from retro_lab.memory.context_reader import MOST
from retro_lab.memory.evidence import Evidence, Text
from retro_lab.memory.own_document import ORDERS, OwnDocument

SEEDS = st.integers(0, 2**32)


def document(seed: int, letters: int = 3) -> NDArray[np.int32]:
    """The longest of a few; it repeats itself."""
    longest = max(random_documents(seed, letters=letters), key=len)
    return np.array([BOUNDARY, *longest, *longest[5:40]], np.int32)


def dense(tokens: NDArray[np.int32], place: int) -> NDArray[np.float64]:
    """[O, V], how often each token followed before a place."""
    chunks = SmallDatabase([tokens[1:].tolist()], len(tokens))
    context = context_at(tokens.tolist(), place)
    ones = np.ones((1, 1), np.float32)
    earlier = [[each for each in in_order(chunks, [0]) if each.place < place]]
    return histograms(earlier, context, ones, VOCABULARY, ORDERS)[0][:, :, 0]


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, letters=st.integers(1, LETTERS), start=st.integers(1, 30))
def test_counts_are_those_of_the_text_before(seed: int, letters: int, start: int) -> None:
    tokens = document(seed, letters)
    start = min(start, len(tokens) - 1)
    experts = OwnDocument(VOCABULARY)
    found = experts.read(Text(tokens), start, len(tokens))
    for row, place in enumerate(range(start, len(tokens))):
        counts = dense(tokens, place)
        total, best = counts.sum(1), counts.max(1)
        some = np.maximum(total, 1)
        assert np.array_equal(found.present[row], total > 0)
        assert found.probability[row] == pytest.approx(counts[:, tokens[place]] / some)
        assert found.favourite[row].tolist() == np.where(total > 0, counts.argmax(1), -1).tolist()
        expected = [np.log1p(total), np.log1p((counts > 0).sum(1)), best / some]
        expected.append(np.array([np.max((total > 0) * np.array(ORDERS))]))
        assert found.features[row] == pytest.approx(np.concatenate(expected), rel=1e-6)
    assert found.probability.shape[1] == len(experts.experts)
    assert found.features.shape[1] == len(experts.features)


def test_the_first_token_has_no_evidence() -> None:
    for tokens in ([BOUNDARY, 3], [BOUNDARY, 3, 3, 3]):
        found = OwnDocument(VOCABULARY).read(Text(np.array(tokens, np.int32)), 1, 2)
        assert not found.present.any()
        assert not found.features.any()
        assert (found.favourite == -1).all()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, place=st.integers(1, 60))
def test_later_tokens_change_nothing(seed: int, place: int) -> None:
    tokens, experts = document(seed), OwnDocument(VOCABULARY)
    place = min(place, len(tokens) - 1)
    other = tokens.copy()
    other[place:] = (other[place:] + 1) % LETTERS
    found, changed = (experts.read(Text(each), 1, len(tokens)) for each in (tokens, other))
    for name in ("present", "favourite", "features"):
        assert np.array_equal(getattr(found, name)[:place], getattr(changed, name)[:place]), name
    assert np.array_equal(found.probability[: place - 1], changed.probability[: place - 1])
    pieces = [experts.read(Text(tokens), 1, place), experts.read(Text(tokens), place, len(tokens))]
    for whole, joined in zip(found, Evidence.stacked(pieces), strict=True):
        assert np.array_equal(whole, joined)


def test_a_long_document_is_read_in_full() -> None:
    """Though a token occurs more often than entries of a database are counted."""
    tokens = np.random.default_rng(0).integers(0, 2, 3 * MOST).astype(np.int32)
    tokens[0] = BOUNDARY
    experts, place = OwnDocument(VOCABULARY), len(tokens) - 500
    found = experts.read(Text(tokens), place, place + 1)
    after = tokens[2:place][tokens[1 : place - 1] == tokens[place - 1]]
    assert len(after) > MOST
    assert found.features[0, 0] == pytest.approx(np.log1p(len(after)))
    assert found.probability[0, 0] == pytest.approx((after == tokens[place]).mean())
    whole = experts.read(Text(tokens), place, len(tokens))
    assert np.array_equal(whole.features[:1], found.features)
    mixture = experts.mixture(Text(tokens[:place]), np.eye(len(ORDERS), dtype=np.float32)[0])
    assert mixture[tokens[place]] == pytest.approx(found.probability[0, 0], abs=1e-6)


def test_a_control_reads_another_document() -> None:
    """Only the answer depends on the text itself."""
    others, experts = document(1), OwnDocument(VOCABULARY)
    stop = len(others)
    other = np.roll(others, 1)
    found, changed = (experts.read(Text(each, others=others), 1, stop) for each in (others, other))
    for whole, control in zip(experts.read(Text(others), 1, stop), found, strict=True):
        assert np.array_equal(whole, control)
    for name in ("present", "favourite", "features"):
        assert np.array_equal(getattr(found, name), getattr(changed, name)), name
    for place in range(1, stop):
        counts = dense(others, place)
        expected = counts[:, other[place]] / np.maximum(counts.sum(1), 1)
        assert changed.probability[place - 1] == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_a_mixture_is_what_follows_the_whole_text(seed: int) -> None:
    tokens, experts = document(seed), OwnDocument(VOCABULARY)
    counts = dense(tokens, len(tokens))
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(ORDERS))).astype(np.float32)
    found = experts.mixture(Text(tokens), shares)
    each = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    assert found == pytest.approx(shares @ each, abs=1e-6)
    assert found.sum() == pytest.approx(shares @ each.any(1), abs=1e-6)
    for expert, share in enumerate(np.eye(len(ORDERS), dtype=np.float32)):
        alone = experts.mixture(Text(tokens), share)
        assert alone.sum() == pytest.approx(float(each[expert].any()), abs=1e-6)

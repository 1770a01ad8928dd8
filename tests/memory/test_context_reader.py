"""Contract: counts are those of looking at every occurrence, for every length of context, whatever
is left out of them; so are those without a compiler. A mixture is the sum of the distributions.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
from counted_world import EVERY, World, assert_equal, read, world
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_database import BOUNDARY, LETTERS, SmallDatabase, context_at, padded, whole_reader

from retro_lab.memory import context_reader
from retro_lab.memory.context_reader import MOST, ORDERS, ContextReader
from retro_lab.memory.plain_contexts import Counted, plain_counts

SEEDS = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    letters=st.integers(1, 4),
    chunk_size=st.integers(1, 9),
    dtype=st.sampled_from([np.uint16, np.int32]),
    max_run=st.sampled_from([None, None, 1, 3, 8, 31, 32, 40]),
    limited=st.booleans(),
    most=st.sampled_from([1, 3, 10, MOST]),
)
def test_counts_are_those_of_every_occurrence(
    seed, letters, chunk_size, dtype, max_run, limited, most
) -> None:
    one = world(seed, letters, chunk_size=chunk_size, dtype=dtype)
    given_ = {"max_run": max_run, "limited": limited, "most": most}
    assert_equal(read(one, **given_), one.expected(**given_))


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    max_run=st.sampled_from([None, 2, 31]),
    limited=st.booleans(),
    most=st.sampled_from([1, 7, MOST]),
)
def test_the_specification_says_the_same(seed, max_run, limited, most) -> None:
    one = world(seed, queries=4)
    for row, context in enumerate(padded(one.contexts)):
        limit = int(one.limits[row]) if limited else None
        counted = Counted(EVERY, most, max_run, limit)
        found = plain_counts(one.chunks, one.segments, context, one.weights, counted)
        expected, documents = one.histogram(row, EVERY, most, max_run, limited)
        assert np.array_equal([each for each, _ in found], expected)
        assert [number for _, number in found] == documents


def test_few_orders_are_those_of_all() -> None:
    one = world(5)
    assert_equal(read(one, orders=ORDERS), one.expected(orders=ORDERS))
    assert_equal(read(one, orders=(4, 9), max_run=6), one.expected(orders=(4, 9), max_run=6))


def test_large_token_ids() -> None:
    one = world(6, dtype=np.int32, scale=20_000)
    assert_equal(read(one, orders=(1, 2, 7)), one.expected(orders=(1, 2, 7)))


def test_a_spelt_boundary_is_a_token_like_others() -> None:
    text = [BOUNDARY, 1, 2]
    chunks = SmallDatabase([[5, *text, 3], [*text, 4], [1, 2, 6]])
    context = padded([context_at([5, *text], 4), context_at([BOUNDARY, *text[1:]], 3)])
    weights = np.ones((3, 1), np.float32)
    targets = np.array([3, 6], np.int32)
    counts = whole_reader(chunks, orders=(3, 4)).counts(context, targets, weights)
    assert counts.total[:, :, 0].tolist() == [[3, 1], [3, 0]]
    assert counts.hit[:, :, 0].tolist() == [[1, 1], [1, 0]]


def test_a_favourite_is_the_lowest_of_equals() -> None:
    chunks = SmallDatabase([[0, 7, 0, 3, 0, 5], [0, 5], [0, 7], [0, 3, 1, 1]])
    weights = np.array([[1, 0], [1, 1], [1, 0.5], [1, 1]], np.float32)
    target = np.array([7], np.int32)
    counts = whole_reader(chunks, orders=(1,)).counts(padded([(0,)]), target, weights)
    assert counts.favourite[0, 0].tolist() == [3, 3]
    assert counts.best[0, 0].tolist() == [2, 1]
    assert counts.hit[0, 0].tolist() == [2, 0.5]


def test_long_matches_count_at_no_order() -> None:
    """Not even at the short ones."""
    chunks = SmallDatabase([[1, 2, 3, 4], [5, 2, 3, 6], [1, 2, 3, 7]])
    context, weights = padded([(3, 2, 1)]), np.ones((3, 1), np.float32)
    totals = {
        run: whole_reader(chunks, orders=(1, 2, 3), max_run=run)
        .counts(context, np.array([4], np.int32), weights)
        .total[0, :, 0]
        .tolist()
        for run in (None, 3, 2, 1)
    }
    assert totals == {None: [3, 3, 2], 3: [3, 3, 2], 2: [1, 1, 0], 1: [0, 0, 0]}


def test_of_many_entries_every_sth_counts() -> None:
    rng = np.random.default_rng(1)
    documents = [rng.integers(0, LETTERS, 900).tolist() for _ in range(3)]
    one = world(2, LETTERS, documents=documents, chunk_size=16)
    one.weights = np.ones((3, 1), np.float32)
    given_ = {"orders": (1, 2, 3), "most": 40}
    found = read(one, **given_)
    assert_equal(found, one.expected(**given_))
    assert found.total[:, :2].min() >= 20
    assert 38 <= found.total.max() <= 40


def test_samples_of_equally_many_entries_are_told_apart() -> None:
    """One sample serves all queries that end alike, and no others."""
    one = world(1, letters=4, queries=24, documents=[[0, 2, 1, 3] * 12] * 3)
    for given_ in ({}, {"limited": True}, {"max_run": 3}):
        assert_equal(read(one, most=7, **given_), one.expected(most=7, **given_))


def test_threads_change_nothing() -> None:
    one = world(7, queries=100)
    for left, right in zip(read(one), read(one, threads=2), strict=True):
        assert np.array_equal(left, right)
    shares = np.ones((100, len(EVERY), 3), np.float32)
    one_thread, two_threads = (
        one.reader().mixture(padded(one.contexts), one.weights, shares, threads=threads)
        for threads in (1, 2)
    )
    assert np.array_equal(one_thread, two_threads)


def distributions(one: World, row: int, **settings) -> NDArray[np.float64]:
    """[O, V, W], 0 without evidence."""
    found, _ = one.histogram(row, **settings)
    return found / np.maximum(found.sum(1, keepdims=True), 1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, max_run=st.sampled_from([None, 4]), most=st.sampled_from([5, MOST]))
def test_a_mixture_is_the_sum_of_distributions(seed, max_run, most) -> None:
    one, orders = world(seed), (1, 2, 3, 5, 8)
    rng = np.random.default_rng(seed)
    shares = rng.random((len(one.contexts), len(orders), 3)).astype(np.float32)
    shares[rng.random(shares.shape) < 0.2] = 0
    shares /= shares.sum((1, 2), keepdims=True)
    reader = one.reader(orders, max_run=max_run, most=most)
    found = reader.mixture(padded(one.contexts), one.weights, shares)
    total = reader.counts(padded(one.contexts), one.targets, one.weights).total
    assert found.sum(1) == pytest.approx((shares * (total > 0)).sum((1, 2)), abs=1e-5)
    for row, mixture in enumerate(found):
        dense = distributions(one, row, orders=orders, max_run=max_run, most=most)
        assert mixture == pytest.approx(np.einsum("ovw,ow->v", dense, shares[row]), abs=1e-6)


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`context_reader`, loaded once more where no compiler is found."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    name = "retro_lab.memory.without_compiler"
    spec = importlib.util.spec_from_file_location(name, context_reader.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("settings_", [{}, {"max_run": 3}, {"most": 4}], ids=str)
def test_without_a_compiler_the_answers_are_the_same(without_compiler, settings_) -> None:
    one = world(8)
    plain = without_compiler.ContextReader(one.chunks, one.segments, orders=EVERY, **settings_)
    found = plain.counts(padded(one.contexts), one.targets, one.weights, limits=one.limits)
    assert_equal(found, one.expected(limited=True, **settings_))
    shares = np.random.default_rng(0).random(found.total.shape).astype(np.float32)
    shares /= shares.sum((1, 2), keepdims=True)
    given_ = padded(one.contexts), one.weights, shares
    expected = one.reader(**settings_).mixture(*given_)
    assert plain.mixture(*given_) == pytest.approx(expected, abs=1e-6)


def test_a_database_of_nothing_says_nothing() -> None:
    chunks = SmallDatabase([[1, 2]])
    weights = np.ones((1, 2), np.float32)
    counts = ContextReader(chunks, []).counts(padded([(1,)]), np.array([2], np.int32), weights)
    assert counts.total.shape == (1, len(ORDERS), 2)
    assert (counts.favourite == -1).all()
    assert not counts.total.any()
    nothing = whole_reader(chunks).counts(padded([()]), np.array([2], np.int32), weights)
    assert not nothing.total.any()
    assert not nothing.documents.any()

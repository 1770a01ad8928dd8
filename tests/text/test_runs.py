"""Contract: runs are those of textbook dynamic programming, measured or only decided; a negative
token matches nothing, itself included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retro_lab.text.frequent_windows import FREQUENT
from retro_lab.text.runs import CommonRuns, WindowHashes, pair_runs, window_hashes


def textbook(left: list[int], right: list[int]) -> int:
    best, before = 0, [0] * (len(right) + 1)
    for a in left:
        row = [0] * (len(right) + 1)
        for j, b in enumerate(right, 1):
            if a == b and a >= 0:
                row[j] = before[j - 1] + 1
                best = max(best, row[j])
        before = row
    return best


def share_run(
    left: np.ndarray,
    right: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    length: int,
    **collaborators: Callable,
) -> np.ndarray:
    owners = np.zeros(len(left), int), np.ones(len(right), int)
    return CommonRuns(left, right, *owners, length, **collaborators).shared(row, column)


def few_hashes(most: int) -> WindowHashes:
    """Hashes of so few values that different windows have the same."""
    return lambda tokens, length: window_hashes(tokens, length) & np.uint64(most)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Left texts, right texts, and the rows of both in each pair; repeats, holes and copies."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    letters = draw(st.sampled_from([1, 2, 3, 50]))
    q, u, p, m, r = (draw(st.integers(1, most)) for most in (4, 6, 9, 14, 20))
    left, right = rng.integers(-1, letters, (q, m)), rng.integers(-1, letters, (u, r))
    row, column = rng.integers(0, q, p), rng.integers(0, u, p)
    if draw(st.booleans()):  # a copied stretch somewhere else in the other text
        length = int(rng.integers(1, min(m, r) + 1))
        there, here = rng.integers(0, m - length + 1), rng.integers(0, r - length + 1)
        right[column[0], here : here + length] = left[row[0], there : there + length]
    return left, right, row, column


@given(problems())
@example((np.array([[-1, -1, 3]]), np.array([[-1, -1, 4]]), np.array([0]), np.array([0])))
@settings(max_examples=300, deadline=None)
def test_equals_the_textbook(problem: tuple[np.ndarray, ...]) -> None:
    left, right, row, column = problem
    expected = [
        textbook(left[i].tolist(), right[j].tolist()) for i, j in zip(row, column, strict=True)
    ]
    assert pair_runs(left[row], right[column]).tolist() == expected
    for length in range(1, min(left.shape[1], right.shape[1]) + 3):
        shared = share_run(left, right, row, column, length)
        assert shared.tolist() == [run >= length for run in expected], length


@given(problems(), st.integers(1, 3), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_owners_change_nothing_between_different_ones(
    problem: tuple[np.ndarray, ...], owners: int, seed: int
) -> None:
    left, right, row, column = problem
    rng = np.random.default_rng(seed)
    ours, theirs = rng.integers(0, owners, len(left)), rng.integers(0, owners, len(right))
    different = ours[row] != theirs[column]
    row, column = row[different], column[different]
    expected = pair_runs(left[row], right[column])
    for length in range(1, min(left.shape[1], right.shape[1]) + 1):
        common = CommonRuns(left, right, ours, theirs, length)
        assert common.shared(row, column).tolist() == (expected >= length).tolist(), length


def test_windows_of_one_owner_are_dropped_and_a_long_run_is_one_entry_a_text() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 4000, (3, 64)), rng.integers(0, 4000, (2, 64))
    right[0, 10:40] = left[1, 20:50]
    right[1] = left[2]
    common = CommonRuns(left, right, np.array([0, 1, 2]), np.array([0, 2]), 8)
    assert common._windows.nnz == 2
    assert common.shared(np.array([0, 1, 1]), np.array([1, 0, 1])).tolist() == [False, True, False]


@given(problems(), st.integers(1, 14))
@settings(max_examples=100, deadline=None)
def test_equal_hashes_decide_nothing(problem: tuple[np.ndarray, ...], length: int) -> None:
    hashed = share_run(*problem, length)
    assert share_run(*problem, length, hashes=few_hashes(1)).tolist() == hashed.tolist()


def test_blocks_do_not_change_the_answer() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 3, (9, 16)), rng.integers(0, 3, (30, 32))
    pairs = np.arange(60) % 9, np.arange(60) // 2
    whole = pair_runs(left[pairs[0]], right[pairs[1]]), share_run(left, right, *pairs, 6)
    assert 0 < whole[1].sum() < 60
    assert (pair_runs(left[pairs[0]], right[pairs[1]], at_once=7) == whole[0]).all()
    in_blocks = partial(window_hashes, at_once=7)
    assert (share_run(left, right, *pairs, 6, hashes=in_blocks) == whole[1]).all()


def test_tokens_of_any_size_and_type() -> None:
    text = np.array([[70_000, 2**31 - 1, 5, 6]], np.int64)
    assert pair_runs(text, text).tolist() == [4]
    one = np.array([0])
    assert share_run(text, text.astype(np.int32), one, one, 4).tolist() == [True]


def test_no_pair_is_measured_unless_hashes_collide() -> None:
    """The point of the hashes; measuring takes a hundred times as long."""
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 4000, (10, 128)), rng.integers(0, 4000, (500, 128))
    row, column = np.arange(500) % 10, np.arange(500)
    right[7, 40:72] = left[7, 3:35]
    measured = []

    def watched(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        measured.append(len(a))
        return pair_runs(a, b)

    assert np.flatnonzero(share_run(left, right, row, column, 32, runs=watched)).tolist() == [7]
    assert sum(measured) == 0
    share_run(left, right, row, column, 32, runs=watched, hashes=few_hashes(1))
    assert sum(measured) > 0


def many_texts_of_few_stretches(stretches: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """80 texts a side, of rare tokens and one or two of these stretches of eight tokens."""
    rng = np.random.default_rng(seed)
    common = rng.integers(0, 50, (stretches, 8))
    sides = []
    for width in (24, 33):
        texts = rng.integers(100, 5000, (80, width))
        for number, text in enumerate(texts):
            text[1:9] = common[number % stretches]
            if number % 3:
                text[12:20] = common[int(rng.integers(0, stretches))]
        sides.append(texts)
    return sides[0], sides[1]


@pytest.mark.parametrize("stretches", [1, 2, 5, 90])
@pytest.mark.parametrize("length", [3, 8])
def test_stretches_that_many_texts_have_are_told_exactly(stretches: int, length: int) -> None:
    left, right = many_texts_of_few_stretches(stretches, stretches)
    row, column = (pairs.reshape(-1) for pairs in np.indices((len(left), len(right))))
    expected = pair_runs(left[row], right[column]) >= length
    assert share_run(left, right, row, column, length).tolist() == expected.tolist()
    assert stretches == 1 or 0 < expected.sum() < len(expected)


def test_equal_hashes_of_frequent_windows_decide_nothing() -> None:
    left, right = many_texts_of_few_stretches(3, 0)
    row, column = (pairs.reshape(-1) for pairs in np.indices((len(left), len(right))))
    hashed = share_run(left, right, row, column, 8)
    again = share_run(left, right, row, column, 8, hashes=few_hashes(7))
    assert again.tolist() == hashed.tolist()


def test_hundreds_of_frequent_windows_are_kept_apart() -> None:
    """More than have a bit; and those that have one don't share it."""
    texts = np.repeat(np.arange(400), FREQUENT)
    row, column = np.random.default_rng(0).integers(0, len(texts), (2, 20_000))
    left = texts[:, None] * 10 + np.arange(4)
    shared = share_run(left, left, row, column, 4)
    assert shared.tolist() == (texts[row] == texts[column]).tolist()
    assert share_run(left, left, row, row, 4).all()

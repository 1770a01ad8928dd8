"""Contract of r(C): the vectorised run equals plain dynamic programming, special tokens match
nothing, a copied chunk has r(C) = 1 wherever it stands, and r(C) <= alpha is decided exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retro_lab.evaluation.measure.overlap import longest_common_run, overlap_ratio, within

PAD, BOUNDARY = 9, 8


def naive_run(chunk: list[int], reference: list[int]) -> int:
    """O(M R) dynamic programming, as in a textbook."""
    best = 0
    table = [[0] * (len(reference) + 1) for _ in range(len(chunk) + 1)]
    for i, a in enumerate(chunk, 1):
        for j, b in enumerate(reference, 1):
            if a == b and a not in (PAD, BOUNDARY):
                table[i][j] = table[i - 1][j - 1] + 1
                best = max(best, table[i][j])
    return best


def rows(alphabet: st.SearchStrategy[int], length: int, count: int) -> st.SearchStrategy:
    row = st.lists(alphabet, min_size=length, max_size=length)
    return st.lists(row, min_size=count, max_size=count)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    q, k, m = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 10))
    r = draw(st.integers(1, 20))
    # One or two letters make long repeats, the hard case; the rest adds the special tokens.
    alphabet = st.sampled_from(draw(st.sampled_from([[0], [0, 1], [0, 1, PAD, BOUNDARY]])))
    chunks = np.array(draw(rows(alphabet, m, q)))
    references = np.array(draw(rows(alphabet, r, q * k))).reshape(q, k, r)
    return chunks, references


@settings(max_examples=150, deadline=None)
@given(problems())
@example((np.zeros((1, 8), int), np.zeros((1, 2, 16), int)))
@example((np.array([[0, 1] * 5]), np.array([[[1, 0] * 10, [1, 1, 0, 0] * 5]])))
@example((np.array([[0, 1, 0, 2]]), np.array([[[0, 1], [0, 2]]])))
def test_equals_textbook_dynamic_programming(problem: tuple[np.ndarray, np.ndarray]) -> None:
    chunks, references = problem
    expected = [
        max(naive_run(list(chunk), list(row)) for row in of_chunk)
        for chunk, of_chunk in zip(chunks, references, strict=True)
    ]
    assert longest_common_run(chunks, references, PAD, BOUNDARY).tolist() == expected


def test_blocks_do_not_change_the_answer() -> None:
    rng = np.random.default_rng(0)
    chunks, references = rng.integers(0, 3, (50, 16)), rng.integers(0, 3, (50, 2, 32))
    whole = longest_common_run(chunks, references, PAD, BOUNDARY)
    assert (longest_common_run(chunks, references, PAD, BOUNDARY, at_once=7) == whole).all()


def test_a_run_does_not_cross_from_one_neighbour_into_the_next() -> None:
    chunks = np.array([[1, 2, 3, 4]])
    references = np.array([[[7, 7, 1, 2], [3, 4, 7, 7]]])
    assert longest_common_run(chunks, references, PAD, BOUNDARY).tolist() == [2]


@pytest.mark.parametrize("m", [255, 256, 300])
def test_runs_longer_than_a_byte_can_count(m: int) -> None:
    chunks = np.arange(m)[None] + 100
    references = np.concatenate([chunks, chunks + 1000], axis=1)[None]
    assert longest_common_run(chunks, references, PAD, BOUNDARY).tolist() == [m]


def test_no_references_share_nothing() -> None:
    chunks = np.ones((3, 4), np.uint16)
    none = np.zeros((3, 0, 8), np.uint16)
    assert longest_common_run(chunks, none, PAD, BOUNDARY).tolist() == [0, 0, 0]


def test_other_number_of_references_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 chunks"):
        longest_common_run(np.ones((3, 4), int), np.ones((2, 1, 4), int), PAD, BOUNDARY)


def test_special_tokens_match_nothing() -> None:
    special = np.array([[BOUNDARY, PAD, PAD, BOUNDARY]])
    assert longest_common_run(special, special[:, None], PAD, BOUNDARY).tolist() == [0]
    crossed = np.array([[PAD, BOUNDARY, BOUNDARY, PAD]])
    assert longest_common_run(special, crossed[:, None], PAD, BOUNDARY).tolist() == [0]


@pytest.mark.parametrize(
    "chunk",
    [
        [1, 2, 3, 4, 5, 6, 7, 1],
        [BOUNDARY, 2, 3, 4, 5, 6, 7, 1],
        [1, 2, 3, PAD, PAD, PAD, PAD, PAD],
        [BOUNDARY, 2, PAD, PAD, PAD, PAD, PAD, PAD],
    ],
    ids=["inner", "first", "last", "only"],
)
def test_a_planted_chunk_has_ratio_one(chunk: list[int]) -> None:
    tokens = np.array([chunk])
    other = np.full((1, 1, 16), 0)
    planted = np.concatenate([[chunk], [[0] * 8]], axis=1)[:, None]
    text = (~np.isin(tokens, [PAD, BOUNDARY])).sum(axis=1)
    references = np.concatenate([other, planted], axis=1)
    run = longest_common_run(tokens, references, PAD, BOUNDARY)
    assert overlap_ratio(run, text).tolist() == [1.0]
    assert overlap_ratio(longest_common_run(tokens, other, PAD, BOUNDARY), text).tolist() == [0.0]


def test_alpha_is_exact_for_every_possible_ratio() -> None:
    tokens = np.repeat(np.arange(1, 130), 130)
    run = np.minimum(np.tile(np.arange(130), 129), tokens)
    for s, n in [(8, 64), (7, 63), (29, 100), (1, 3), (2, 3), (57, 100), (1, 1), (0, 1)]:
        exact = run * n <= tokens * s
        assert (within(s / n, run, tokens) == exact).all(), (s, n)


def test_alpha_means_the_decimal_that_is_written() -> None:
    assert 0.29 * 100 < 29, "the float trap that integers avoid"
    assert within(0.29, np.array([29]), np.array([100])).all()
    assert within(0.125, np.array([8]), np.array([64])).all()
    assert not within(0.125, np.array([9]), np.array([64])).any()
    assert not within(0.125, np.array([1]), np.array([7])).any()

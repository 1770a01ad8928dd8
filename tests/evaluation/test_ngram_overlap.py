"""Contract of the n-gram measures: they equal their definition by sets, special tokens are none,
and missing neighbours share nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retro_lab.evaluation.measure.ngram_overlap import ngram_jaccard, unigram_overlap

PAD, BOUNDARY = 9, 8
SPECIAL = (PAD, BOUNDARY)


def grams(row: list[int], n: int) -> set[tuple[int, ...]]:
    windows = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
    return {window for window in windows if not set(window) & set(SPECIAL)}


def jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    q, k, m = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 8))
    r, n = draw(st.integers(m, 12)), draw(st.integers(1, m))
    token = st.sampled_from(draw(st.sampled_from([[0], [0, 1, PAD], [0, 1, 2, BOUNDARY, PAD]])))
    size = q * (m + k * r)
    tokens = np.array(draw(st.lists(token, min_size=size, max_size=size)), np.uint16)
    return tokens[: q * m].reshape(q, m), tokens[q * m :].reshape(q, k, r), n


@settings(max_examples=100, deadline=None)
@given(problems())
def test_both_measures_equal_their_definition(problem: tuple[np.ndarray, np.ndarray, int]) -> None:
    chunks, references, n = problem
    rows = list(zip(chunks.tolist(), references.tolist(), strict=True))
    expected = [max(jaccard(grams(c, n), grams(r, n)) for r in read) for c, read in rows]
    assert ngram_jaccard(chunks, references, SPECIAL, n).tolist() == pytest.approx(expected)
    text = [[t for t in c if t not in SPECIAL] for c, _ in rows]
    shares = [
        sum(any(t in r for r in read) for t in c) / max(1, len(c))
        for c, (_, read) in zip(text, rows, strict=True)
    ]
    assert unigram_overlap(chunks, references, SPECIAL).tolist() == pytest.approx(shares)


def test_a_copy_is_like_itself_and_nothing_is_like_nothing() -> None:
    chunks = np.array([[1, 2, 3, 4], [BOUNDARY, 1, PAD, PAD]])
    none = np.full((2, 2, 8), PAD)
    assert ngram_jaccard(chunks, chunks[:, None], SPECIAL, 3).tolist() == [1.0, 0.0]
    assert unigram_overlap(chunks, chunks[:, None], SPECIAL).tolist() == [1.0, 1.0]
    assert ngram_jaccard(chunks, none, SPECIAL, 3).tolist() == [0.0, 0.0]
    assert unigram_overlap(chunks, none, SPECIAL).tolist() == [0.0, 0.0]
    without = np.zeros((2, 0, 8), int)
    assert ngram_jaccard(chunks, without, SPECIAL, 3).tolist() == [0.0, 0.0]
    assert unigram_overlap(chunks, without, SPECIAL).tolist() == [0.0, 0.0]


def test_long_ngrams_of_a_large_vocabulary_keep_apart() -> None:
    """Names are exact where a packed number would overflow."""
    chunk = np.arange(100_000, 100_064)[None]
    other = chunk.copy()
    other[0, 31] = 7
    shared = (31 - 13 + 1) + (32 - 13 + 1)  # before and behind the changed token
    expected = shared / (2 * (64 - 13 + 1) - shared)
    found = ngram_jaccard(chunk, other[:, None], (0, 1), 13)
    assert found.tolist() == pytest.approx([expected])

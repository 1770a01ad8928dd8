"""Contract: the editor changes as much as it is told, and each detector has the known score of a
copy, of a changed copy and of other text, on cases that can be counted by hand.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from retro_lab.evaluation.measure.edits import with_lines_reordered, with_tokens_replaced
from retro_lab.evaluation.measure.leak_detectors import (
    CutText,
    scores_anywhere,
    scores_by_neighbours,
)
from retro_lab.evaluation.measure.ngram_overlap import document_jaccard

M = 16


@pytest.mark.parametrize("rate", [0, 0.05, 0.2, 1])
def test_the_share_that_is_asked_for_is_replaced(rate: float) -> None:
    tokens, counts = np.arange(400) % 3, np.array([1, 0, 3])
    edited = with_tokens_replaced(tokens, rate, counts, np.random.default_rng(0))
    assert (edited != tokens).sum() == round(rate * 400)
    assert set(edited[edited != tokens]) <= {0, 2}  # token 1 occurs nowhere
    again = with_tokens_replaced(tokens, rate, counts, np.random.default_rng(0))
    np.testing.assert_array_equal(edited, again)


def test_replacements_follow_the_counts() -> None:
    tokens, counts = np.full(4000, 3), np.array([10, 30, 60, 0])
    edited = with_tokens_replaced(tokens, 1, counts, np.random.default_rng(1))
    np.testing.assert_allclose(np.bincount(edited, minlength=4) / 40, counts, atol=3)


def test_lines_are_the_same_in_another_order() -> None:
    text = "".join(f"line {i}\n" for i in range(50)) + "no end"
    moved = with_lines_reordered(text, np.random.default_rng(0))
    assert Counter(moved.split("\n")) == Counter(text.split("\n"))
    assert moved != text


def cut(rows: list[list[int]], document: list[int], vectors: list[list[float]]) -> CutText:
    tokens = np.full((len(rows), M), -1, np.int32)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return CutText(tokens, np.array(document), np.array(vectors, np.float32))


COPY = list(range(100, 100 + M))
OTHER = list(range(200, 200 + M))
HALF = [*COPY[: M // 2], *range(300, 300 + M // 2)]


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    """Of a copy, of a half copy, and of other text, each a document."""
    text = cut([COPY, HALF, OTHER], [0, 1, 2], [[1, 0], [0.8, 0.6], [0, 1]])
    filler = [list(range(400 + M * i, 400 + M * (i + 1))) for i in range(3)]
    database = cut(
        [filler[0], COPY, *filler[1:]], [0, 1, 2, 2], [[-1, 0], [1, 0], [0, -1], [-1, 0]]
    )
    return scores_anywhere(text, database) | scores_by_neighbours(text, database)


@pytest.mark.parametrize(
    ("detector", "expected"),
    [
        ("exact_run", [1, 0.5, 0]),
        ("neighbour_run", [1, 0.5, 0]),
        ("unigram", [1, 0.5, 0]),
        ("embedding", [1, 0.8, 0]),
        ("jaccard_13", [1, 0, 0]),  # half a copy is 8 tokens in a row, no 13-gram
    ],
)
def test_each_detector_scores_what_can_be_counted(
    scores: dict[str, np.ndarray], detector: str, expected: list[float]
) -> None:
    np.testing.assert_allclose(scores[detector], expected, atol=1e-6)


def test_a_copy_that_is_cut_elsewhere_is_found_in_a_neighbour_and_its_continuation() -> None:
    text = cut([COPY], [0], [[1]])
    shifted = cut([[-1, 7, 8, *COPY[: M - 3]], COPY[M - 3 :]], [0, 0], [[1], [1]])
    apart = shifted._replace(document=np.array([0, 1]))
    assert scores_by_neighbours(text, shifted)["neighbour_run"] == 1
    assert scores_by_neighbours(text, apart)["neighbour_run"] == (M - 3) / M
    assert scores_anywhere(text, shifted)["exact_run"] == 1


def test_two_databases_together_score_as_the_better_one() -> None:
    text = cut([COPY, OTHER], [0, 0], [[1, 0], [0, 1]])
    one, two = cut([HALF], [0], [[0.8, 0.6]]), cut([OTHER], [0], [[0, 1]])
    both = scores_anywhere(text, one.with_more(two))
    parts = scores_anywhere(text, one), scores_anywhere(text, two)
    for name, score in both.items():
        np.testing.assert_allclose(score, np.maximum(*(part[name] for part in parts)))


def test_document_jaccard_counts_distinct_ngrams() -> None:
    one, other = np.array([1, 2, 3, 1, 2, 3]), np.array([2, 3, 1, 9])
    # 3-grams: {123, 231, 312} and {231, 319}
    np.testing.assert_allclose(document_jaccard([one], [np.array([5]), other], 3), [1 / 4])
    assert document_jaccard([np.array([1, 2])], [one], 3) == [0]
    joined = document_jaccard([np.array([2, 3, 4])], [np.array([1, 2]), np.array([3, 4])], 3)
    assert joined == [0]  # no n-gram lies across two documents

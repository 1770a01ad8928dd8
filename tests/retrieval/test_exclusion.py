"""Contract: `search_filled` is the naive rule, fetched lazily: rank all chunks, drop those of the
query's document, keep k. Only rows that aren't full are searched again.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retro_lab.retrieval.base import Neighbours, Queries
from retro_lab.retrieval.filters.exclusion import other_documents, search_filled
from retro_lab.retrieval.search.ranking import sort_rows
from retro_lab.testing.small_world import make_queries


class RankedByTable:
    """A search over a stored score matrix; remembers what it was asked."""

    needs_embeddings = False
    exact = True

    def __init__(self, scores: np.ndarray, chunk_ids: np.ndarray) -> None:
        self.scores, self.chunk_ids = scores, chunk_ids
        self.asked: list[tuple[list[int], int]] = []

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        self.asked.append((queries.chunk_ids.tolist(), k))
        scores = self.scores[queries.chunk_ids].astype(np.float32)
        ids = np.broadcast_to(self.chunk_ids, scores.shape)
        best = sort_rows(Neighbours(ids, scores))
        found = Neighbours.empty(len(ids), k)
        width = min(k, ids.shape[1])
        found.ids[:, :width], found.scores[:, :width] = best.ids[:, :width], best.scores[:, :width]
        return found


def naive(
    scores: np.ndarray, chunk_ids: np.ndarray, own: int, document: np.ndarray, k: int
) -> list[int]:
    ranked = sorted(zip(-scores, chunk_ids, strict=True))
    kept = [int(chunk) for _, chunk in ranked if document[chunk] != own][:k]
    return kept + [-1] * (k - len(kept))


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_equals_the_naive_rule(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    total = data.draw(st.integers(1, 60))
    document = np.sort(rng.integers(0, data.draw(st.integers(1, 6)), total))
    chunk_ids = np.sort(rng.choice(total, data.draw(st.integers(1, total)), replace=False))
    k = data.draw(st.integers(1, 12))
    scores = rng.integers(0, 4, (total, len(chunk_ids)))  # coarse: nearly everything ties
    retriever = RankedByTable(scores, chunk_ids)
    queries = make_queries(np.zeros((total, 2), int), document)
    limits = {
        "margin": data.draw(st.integers(1, 5)),
        "most": data.draw(st.sampled_from([1, 30, 10_000])),
    }
    found = search_filled(retriever, queries, k, document, **limits)  # type: ignore[arg-type]
    for row in range(total):
        expected = naive(scores[row], chunk_ids, document[row], document, k)
        assert found.ids[row].tolist() == expected
        here = found.ids[row] >= 0
        columns = np.searchsorted(chunk_ids, found.ids[row][here])
        assert (found.scores[row][here] == scores[row][columns]).all()


def test_a_copy_that_outranks_the_query_itself_stays() -> None:
    document = np.array([0, 1, 1])
    scores = np.array([[5, 9, 1]] * 3)  # chunk 1 copies chunk 0 and comes first
    retriever = RankedByTable(scores, np.arange(3))
    found = search_filled(retriever, make_queries(np.zeros((3, 2), int), document), 2, document)  # type: ignore[arg-type]
    assert found.ids.tolist() == [[1, 2], [0, -1], [0, -1]]


def test_only_rows_that_are_not_full_are_searched_again() -> None:
    document = np.array([0] * 10 + [1] * 30)
    scores = -np.arange(40)[None].repeat(40, axis=0)  # everybody's best are chunks 0, 1, 2, ...
    retriever = RankedByTable(scores, np.arange(40))
    queries = make_queries(np.zeros((40, 2), int), document)
    search_filled(retriever, queries, 2, document, margin=2)  # type: ignore[arg-type]
    assert retriever.asked == [
        (list(range(40)), 4),
        (list(range(10)), 8),
        (list(range(10)), 16),
    ]


def test_banned_documents_are_the_whole_row_of_them() -> None:
    document = np.array([0, 0, 1, 2])
    ids = np.array([[0, 2, 3, -1], [0, 2, 3, -1]])
    banned = np.array([[0, 2], [1, -1]])
    allowed = other_documents(ids, banned, document)
    assert allowed.tolist() == [[False, True, False, False], [True, False, True, False]]

"""Vectorised sorting and selection within the rows of a result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..base import NO_CHUNK, Neighbours


def sort_rows(found: Neighbours) -> Neighbours:
    """Sorts rows best first, equal scores by ascending id, missing neighbours last.

    Rows already in order, the usual case, are left alone.
    """
    ids = found.ids.copy()
    scores = np.where(ids == NO_CHUNK, -np.inf, found.scores).astype(np.float32)
    falling, level = scores[:, :-1] > scores[:, 1:], scores[:, :-1] == scores[:, 1:]
    unordered = np.flatnonzero(~(falling | (level & (ids[:, :-1] <= ids[:, 1:]))).all(axis=1))
    order = np.lexsort((ids[unordered], -scores[unordered]), axis=-1)
    ids[unordered] = np.take_along_axis(ids[unordered], order, axis=1)
    scores[unordered] = np.take_along_axis(scores[unordered], order, axis=1)
    return Neighbours(ids, scores)


def best_of_rows(
    rows: np.ndarray, ids: np.ndarray, scores: np.ndarray, num_rows: int, k: int
) -> Neighbours:
    """The k best of a ragged set of hits, in the order of `sort_rows`.

    Args:
        rows: int64 [n], each hit's query, below `num_rows`, in any order.
        ids: int64 [n], chunk ids.
        scores: float32 [n].
        num_rows: number of queries.
        k: neighbours a query.
    """
    order = np.lexsort((ids, -scores, rows))
    rows = rows[order]
    first = np.searchsorted(rows, np.arange(num_rows))
    rank = np.arange(len(rows)) - first[rows]
    kept = rank < k
    best = Neighbours.empty(num_rows, k)
    best.ids[rows[kept], rank[kept]] = ids[order][kept]
    best.scores[rows[kept], rank[kept]] = scores[order][kept]
    return best


def first_allowed(found: Neighbours, allowed: np.ndarray, k: int) -> Neighbours:
    """The first k allowed neighbours of each row, in their given order.

    Args:
        found: [Q, F] candidates.
        allowed: bool [Q, F].
        k: neighbours a row of the result; missing ones are -1.
    """
    rank = np.cumsum(allowed, axis=1, dtype=np.int32)
    kept = allowed & (rank <= k)
    rows, _ = np.nonzero(kept)
    columns = rank[kept] - 1
    selected = Neighbours.empty(len(allowed), k)
    selected.ids[rows, columns] = found.ids[kept]
    selected.scores[rows, columns] = found.scores[kept]
    return selected


def reranked(
    first: Neighbours, pool: int, k: int, score: Callable[[np.ndarray], np.ndarray]
) -> Neighbours:
    """The first `pool` candidates reordered by another score, followed by the others.

    Args:
        first: [Q, F] candidates, F at least k, best first.
        pool: number of candidates to score again.
        k: neighbours a row of the result.
        score: maps ids [Q, pool], -1 for none, to float32 scores of the same shape.
    """
    ids = first.ids[:, :pool]
    head = sort_rows(Neighbours(ids, score(ids)))
    return append_tail(head, Neighbours(first.ids[:, pool:], first.scores[:, pool:]), k)


def append_tail(head: Neighbours, tail: Neighbours, k: int) -> Neighbours:
    """The head, followed by the tail's candidates that the head lacks.

    The scales differ, so the tail's scores are the head's lowest, minus 1 for its first place, 2
    for the second, and so on.

    Args:
        head: [Q, H], best first.
        tail: [Q, T], best first.
        k: neighbours a row of the result.
    """
    there = head.ids != NO_CHUNK
    lowest = np.where(there, head.scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    behind = np.where(np.isinf(lowest), 0, lowest) - np.arange(1, tail.ids.shape[1] + 1)
    ids = np.concatenate([head.ids, tail.ids], axis=1)
    scores = np.concatenate([head.scores, behind.astype(np.float32)], axis=1)
    allowed = (ids != NO_CHUNK) & ~repeated_in_row(ids)
    return first_allowed(Neighbours(ids, scores), allowed, k)


def repeated_in_row(ids: np.ndarray) -> np.ndarray:
    """bool [Q, K]: whether the same id occurs further left in the row."""
    order = np.argsort(ids, axis=1, kind="stable")
    ascending = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, dtype=bool)
    again[:, 1:] = ascending[:, 1:] == ascending[:, :-1]
    repeated = np.zeros(ids.shape, dtype=bool)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated

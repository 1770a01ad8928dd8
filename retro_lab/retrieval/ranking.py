"""Order and selection within the rows of a result, vectorised: no Python loop over queries."""

from __future__ import annotations

import numpy as np

from retro_lab.retrieval.base import NO_CHUNK, Neighbours


def sort_rows(found: Neighbours) -> Neighbours:
    """Best first, equal scores by ascending id, missing neighbours last."""
    scores = np.where(found.ids == NO_CHUNK, -np.inf, found.scores).astype(np.float32)
    order = np.lexsort((found.ids, -scores), axis=-1)
    return Neighbours(
        np.take_along_axis(found.ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )


def best_of_rows(
    rows: np.ndarray, ids: np.ndarray, scores: np.ndarray, num_rows: int, k: int
) -> Neighbours:
    """The k best of a ragged set of hits, as `sort_rows` orders them.

    Args:
        rows: int64 [n], the query that a hit belongs to, below `num_rows`, in any order.
        ids: int64 [n], chunk ids.
        scores: float32 [n].
        num_rows: queries.
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
    """The first k allowed neighbours of each row, in the order they stand in.

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

"""Reciprocal-rank fusion: chunks found by both a dense and a lexical search come first.

Source: Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual
rank learning methods", 2009: a chunk's score is the sum of 1 / (60 + rank) over the searches.
"""

from __future__ import annotations

import numpy as np

from ..base import NO_CHUNK, Neighbours, Queries
from .combined import CombinedRetriever
from .ranking import append_tail, best_of_rows


class HybridRetriever(CombinedRetriever):
    """Fuses two searches of equal weight; further dense candidates follow."""

    needs_embeddings = True

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The fused first `depth` of both searches, then the dense search's further candidates."""
        depth = self.config.depth
        dense = self.parts["dense"].candidates(queries, max(k, depth))
        lexical = self.parts["lexical"].candidates(queries, depth)
        tail = Neighbours(dense.ids[:, depth:], dense.scores[:, depth:])
        return append_tail(fuse([dense.ids[:, :depth], lexical.ids], self.config.constant), tail, k)


def fuse(rankings: list[np.ndarray], constant: int) -> Neighbours:
    """Reciprocal-rank fusion of rankings [Q, D] of chunk ids, -1 for none; ties by ascending id.

    Returns:
        One column for each column of the rankings.
    """
    ids = np.concatenate(rankings, axis=1)
    rank = np.concatenate([np.arange(1, ranking.shape[1] + 1) for ranking in rankings])
    rows, columns = np.nonzero(ids != NO_CHUNK)
    span = int(ids.max(initial=0)) + 1
    pairs, place = np.unique(rows * span + ids[rows, columns], return_inverse=True)
    scores = np.bincount(place, weights=1 / (constant + rank[columns])).astype(np.float32)
    return best_of_rows(pairs // span, pairs % span, scores, len(ids), ids.shape[1])

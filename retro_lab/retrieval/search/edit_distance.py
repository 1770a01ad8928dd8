"""BM25's candidates in the order of their edit distance: text that was changed token by token.

The Levenshtein distance of two chunks is the fewest tokens to insert, delete or replace that turn
one into the other. Comparing every pair takes about 1 microsecond each, minutes for 20k chunks, so
BM25 gives the candidates. The pool rarely lacks a chunk that is at all similar: docs/retrieval.md.
"""

from __future__ import annotations

import numpy as np

from ..base import NO_CHUNK, Queries
from .bm25 import Bm25Reranker


class EditDistanceRetriever(Bm25Reranker):
    """The first `pool` candidates by edit distance, then BM25's order.

    A score is 1 minus the distance over the longer chunk's tokens: 1 for equal chunks, 0 for chunks
    that share no token at matching places. Equal distances are ordered by id.
    """

    def score(self, queries: Queries, ids: np.ndarray) -> np.ndarray:
        """The similarity of each candidate."""
        rows, columns = np.nonzero(ids != NO_CHUNK)
        scores = np.zeros(ids.shape, dtype=np.float32)
        known = self.tokens_of(ids[rows, columns])
        scores[rows, columns] = edit_similarity(queries.tokens[rows], known)
        return scores


def edit_similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float32 [P], 1 minus the normalised Levenshtein distance of each pair of token rows.

    Args:
        left: int32 [P, M], negative for padding and boundaries, which are left out.
        right: int32 [P, R].
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    return cpdist(
        _spelt(left),
        _spelt(right),
        scorer=Levenshtein.normalized_similarity,
        dtype=np.float32,
        workers=1,
    )


def _spelt(tokens: np.ndarray) -> list[str]:
    """Each row as a string with a character for each token, which rapidfuzz compares fastest."""
    rows, place = np.unique(tokens, axis=0, return_inverse=True)
    spelt = [
        row[row >= 0].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass") for row in rows
    ]
    return [spelt[i] for i in place.tolist()]

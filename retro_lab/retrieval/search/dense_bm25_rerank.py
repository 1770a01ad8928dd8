"""Dense candidates reordered by BM25: part of BM25's gain without a lexical search of all chunks.

Source: Doostmohammadi et al., "Surface-based retrieval reduces perplexity of retrieval-augmented
language models", 2023: k1 = 0.9, b = 0.4, token statistics of the whole database.
"""

from __future__ import annotations

import numpy as np

from ..base import Queries
from .combined import Reranker


class DenseBm25Reranker(Reranker):
    """Dense candidates ordered by BM25 score, ties by ascending id."""

    needs_embeddings = True

    def score(self, queries: Queries, ids: np.ndarray) -> np.ndarray:
        """BM25 score of each candidate."""
        return self.parts["bm25"].scores_of(queries.tokens, ids)

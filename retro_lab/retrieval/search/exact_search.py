"""Exact search over stored vectors without an index, to measure approximate searches against.

Every vector is read once a call, in blocks.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from retro_lab.config.schema import FaissRetrieverConfig

from ..base import Neighbours, Queries, Retriever, Rows
from ..embed.embedders import Embeddings
from .combined import CombinedRetriever
from .faiss_blocks import BLOCK
from .faiss_index import FaissRetriever
from .ranking import sort_rows


class ExactSearch:
    """Equals `FaissRetriever` with `Flat`, to the last bit.

    Args:
        vectors: vectors of the database's chunks.
        block: vectors in memory at a time.
    """

    needs_embeddings = True

    def __init__(self, vectors: Rows, *, block: int = BLOCK) -> None:
        self.vectors = vectors
        self._block = block

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k best chunks by inner product."""
        best = Neighbours.empty(len(queries.document), 0)
        for start in range(0, len(self.vectors), self._block):
            block = slice(start, start + self._block)
            flat, ids = FaissRetriever(FaissRetrieverConfig()), self.vectors.ids[block]
            flat.build(ids, np.empty((len(ids), 0), np.int32), self.vectors[block])
            found = zip(best, flat.candidates(queries, k), strict=True)
            best = sort_rows(Neighbours(*(np.concatenate(pair, axis=1) for pair in found)))
            best = Neighbours(best.ids[:, :k], best.scores[:, :k])
        return best


def with_exact_search(retriever: Retriever, chunk_ids: np.ndarray, embeddings: Embeddings) -> Any:
    """A copy of a retriever with its dense search replaced by exact search.

    Any other than a combined one is a dense search as a whole.
    """
    exact = ExactSearch(Rows(chunk_ids, embeddings.of))
    if not isinstance(retriever, CombinedRetriever):
        return exact
    whole = copy(retriever)
    whole.parts = {**retriever.parts, "dense": exact}
    return whole

"""THE ORACLE READS THE TEXT THAT THE MODEL IS TO PREDICT. It is an upper bound, not a retriever.

The neighbours of chunk u are the database's chunks with the longest common token run with the next
chunk, u + 1, which they help to predict. No search of the past alone can do this: the gain is an
upper bound for perfect surface retrieval from this database. Never report its figures as a result
of retrieval.

The last chunk of a document has no next one and uses its own text; only a leakage measure reads its
neighbours.
"""

from __future__ import annotations

import numpy as np

from retro_lab.text.runs import pair_runs

from ..base import NO_CHUNK, Neighbours, Queries
from .bm25 import Bm25Reranker
from .ranking import reranked


class OracleRetriever(Bm25Reranker):
    """Candidates by BM25 of the next chunk; the first `pool` ordered by their exact common run.

    A score's integer part is the longest run in tokens; its fraction grows with BM25 and orders
    runs of equal length. After the pool, BM25's order continues. Runs beyond the pool are missed:
    raise `retriever.pool` to find more.
    """

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k best candidates, longest run with the next chunk first."""
        wanted = queries.tokens if queries.following is None else queries.following
        pool = self.config.pool
        first = self.parts["bm25"].candidates(queries._replace(tokens=wanted), max(k, pool))
        surface = first.scores[:, :pool]

        def longest_runs(ids: np.ndarray) -> np.ndarray:
            rows, columns = np.nonzero(ids != NO_CHUNK)
            known = self.tokens_of(ids[rows, columns])
            bm25 = surface[rows, columns].astype(np.float64)
            scores = np.zeros(ids.shape, dtype=np.float32)
            scores[rows, columns] = pair_runs(wanted[rows], known) + bm25 / (1 + bm25)
            return scores

        return reranked(first, pool, k, longest_runs)

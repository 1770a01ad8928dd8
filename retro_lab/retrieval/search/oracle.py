"""THE ORACLE READS THE TEXT THAT THE MODEL IS TO PREDICT. It is an upper bound, not a retriever.

The neighbours of chunk u are the database's chunks with the longest common token run with the next
chunk, u + 1, which they help to predict. No search of the past alone can do this: the gain is an
upper bound for perfect surface retrieval from this database. Never report its figures as a result
of retrieval.

The last chunk of a document has no next one and uses its own text; only a leakage measure reads its
neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.config.schema import OracleRetrieverConfig
from retro_lab.store.workspace import Workspace
from retro_lab.text.runs import pair_runs

from ..base import NO_CHUNK, Neighbours, Queries, RowSource
from .bm25 import Bm25Retriever
from .ranking import reranked
from .sub_indexes import load_sub_index, save_sub_index, sub_index_fields


class OracleRetriever:
    """Candidates by BM25 of the next chunk; the first `pool` ordered by their exact common run.

    A score's integer part is the longest run in tokens; its fraction grows with BM25 and orders
    runs of equal length. After the pool, BM25's order continues. Runs beyond the pool are missed:
    raise `retriever.pool` to find more.
    """

    needs_embeddings = OracleRetrieverConfig.needs_embeddings
    exact = True

    def __init__(self, config: OracleRetrieverConfig) -> None:
        self.config = config
        self.bm25 = Bm25Retriever(config.bm25)
        self.tokens = np.empty((0, 0), dtype=np.int32)  # [S, M]

    @classmethod
    def index_fields(cls, config: OracleRetrieverConfig) -> dict[str, Any]:
        """Settings of BM25; the pool acts at search time."""
        return {"bm25": sub_index_fields(config.bm25)}

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Builds BM25's index and keeps the tokens; ignores embeddings."""
        self.tokens = np.asarray(tokens)
        return self.bm25.build(chunk_ids, self.tokens, None)

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k best candidates, longest run with the next chunk first."""
        wanted = queries.tokens if queries.following is None else queries.following
        pool = self.config.pool
        first = self.bm25.candidates(queries._replace(tokens=wanted), max(k, pool))
        surface = first.scores[:, :pool]

        def longest_runs(ids: np.ndarray) -> np.ndarray:
            rows, columns = np.nonzero(ids != NO_CHUNK)
            places = np.searchsorted(self.bm25.chunk_ids, ids[rows, columns])
            bm25 = surface[rows, columns].astype(np.float64)
            scores = np.zeros(ids.shape, dtype=np.float32)
            scores[rows, columns] = pair_runs(wanted[rows], self.tokens[places]) + bm25 / (1 + bm25)
            return scores

        return reranked(first, pool, k, longest_runs)

    def save(self, folder: Path) -> None:
        save_sub_index(self.bm25, folder, "bm25")
        np.save(folder / "tokens.npy", self.tokens, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, config: OracleRetrieverConfig) -> Self:
        retriever = cls(config)
        retriever.bm25 = load_sub_index(config.bm25, folder, "bm25")
        retriever.tokens = np.load(folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
        return retriever

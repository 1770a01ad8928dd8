"""Dense candidates reordered by a ranker: the base of the reranking retrievers.

The ranker scores the first `pool` candidates of a chunk; later ones keep their order, so that a
chunk whose pool is its own document still gets neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.store.workspace import Workspace

from ..base import Neighbours, Queries, RowSource
from .ranking import reranked
from .registry import build_retriever
from .sub_indexes import load_sub_index, save_sub_index, sub_index_fields


class DenseReranker:
    """A dense search whose first candidates are scored again."""

    needs_embeddings = True

    def __init__(self, config: Any) -> None:
        self.config = config
        self.dense: Any = build_retriever(config.dense)

    def score(self, queries: Queries, ids: np.ndarray) -> np.ndarray:
        """float32 [Q, P], the ranker's scores of chunks `ids` [Q, P], -1 for none."""
        raise NotImplementedError

    @property
    def exact(self) -> bool:
        """As for the dense search: the ranker only scores its candidates."""
        return self.dense.exact

    @classmethod
    def index_fields(cls, config: Any) -> dict[str, Any]:
        """Settings of the dense search; the pool acts at search time."""
        return {"dense": sub_index_fields(config.dense)}

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Indexes the embeddings; raises as the dense search does."""
        return self.dense.build(chunk_ids, tokens, embeddings, workspace)

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The first `pool` dense candidates by the ranker's score, then the others."""
        pool = self.config.pool
        first = self.dense.candidates(queries, max(k, pool))
        return reranked(first, pool, k, lambda ids: self.score(queries, ids))

    def save(self, folder: Path) -> None:
        save_sub_index(self.dense, folder, "dense")

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        retriever = cls(config)
        retriever.dense = load_sub_index(config.dense, folder, "dense")
        return retriever

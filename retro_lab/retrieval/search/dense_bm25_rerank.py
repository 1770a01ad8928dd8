"""Dense candidates reordered by BM25: part of BM25's gain without a lexical search of all chunks.

Source: Doostmohammadi et al., "Surface-based retrieval reduces perplexity of retrieval-augmented
language models", 2023: k1 = 0.9, b = 0.4, token statistics of the whole database.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.config.schema import DenseBm25RetrieverConfig
from retro_lab.store.workspace import Workspace

from ..base import Queries, RowSource
from .bm25 import Bm25Retriever
from .dense_rerank import DenseReranker
from .sub_indexes import load_sub_index, save_sub_index, sub_index_fields


class DenseBm25Reranker(DenseReranker):
    """Dense candidates ordered by BM25 score, ties by ascending id."""

    def __init__(self, config: DenseBm25RetrieverConfig) -> None:
        super().__init__(config)
        self.bm25 = Bm25Retriever(config.bm25)

    @classmethod
    def index_fields(cls, config: DenseBm25RetrieverConfig) -> dict[str, Any]:
        """Settings of both parts."""
        return {**super().index_fields(config), "bm25": sub_index_fields(config.bm25)}

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Indexes the embeddings, and scores every token of every chunk."""
        lexical = self.bm25.build(chunk_ids, tokens, None)
        return {**super().build(chunk_ids, tokens, embeddings, workspace), **lexical}

    def score(self, queries: Queries, ids: np.ndarray) -> np.ndarray:
        """BM25 score of each candidate."""
        return self.bm25.scores_of(queries.tokens, ids)

    def save(self, folder: Path) -> None:
        super().save(folder)
        save_sub_index(self.bm25, folder, "bm25")

    @classmethod
    def load(cls, folder: Path, config: DenseBm25RetrieverConfig) -> Self:
        retriever = super().load(folder, config)
        retriever.bm25 = load_sub_index(config.bm25, folder, "bm25")
        return retriever

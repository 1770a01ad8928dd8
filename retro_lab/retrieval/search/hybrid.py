"""Reciprocal-rank fusion: chunks found by both a dense and a lexical search come first.

Source: Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual
rank learning methods", 2009: a chunk's score is the sum of 1 / (60 + rank) over the searches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.config.schema import HybridRetrieverConfig
from retro_lab.store.workspace import Workspace

from ..base import NO_CHUNK, Neighbours, Queries, RowSource
from .ranking import append_tail, best_of_rows
from .registry import build_retriever
from .sub_indexes import load_sub_index, save_sub_index, sub_index_fields


class HybridRetriever:
    """Fuses two searches of equal weight; further dense candidates follow."""

    needs_embeddings = HybridRetrieverConfig.needs_embeddings

    def __init__(self, config: HybridRetrieverConfig) -> None:
        self.config = config
        self.dense: Any = build_retriever(config.dense)
        self.lexical: Any = build_retriever(config.lexical)

    @property
    def exact(self) -> bool:
        """As for the dense search; the lexical one is exact."""
        return self.dense.exact

    @classmethod
    def index_fields(cls, config: HybridRetrieverConfig) -> dict[str, Any]:
        """Settings of both parts; constant and depth act at search time."""
        return {
            "dense": sub_index_fields(config.dense),
            "lexical": sub_index_fields(config.lexical),
        }

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Builds both indexes; raises as they do."""
        lexical = self.lexical.build(chunk_ids, tokens, None)
        return {**self.dense.build(chunk_ids, tokens, embeddings, workspace), **lexical}

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The fused first `depth` of both searches, then the dense search's further candidates."""
        depth = self.config.depth
        dense = self.dense.candidates(queries, max(k, depth))
        lexical = self.lexical.candidates(queries, depth)
        tail = Neighbours(dense.ids[:, depth:], dense.scores[:, depth:])
        return append_tail(fuse([dense.ids[:, :depth], lexical.ids], self.config.constant), tail, k)

    def save(self, folder: Path) -> None:
        save_sub_index(self.dense, folder, "dense")
        save_sub_index(self.lexical, folder, "lexical")

    @classmethod
    def load(cls, folder: Path, config: HybridRetrieverConfig) -> Self:
        retriever = cls(config)
        retriever.dense = load_sub_index(config.dense, folder, "dense")
        retriever.lexical = load_sub_index(config.lexical, folder, "lexical")
        return retriever


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

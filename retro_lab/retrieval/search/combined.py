"""Searches made of other searches, and the re-ranking of a search's candidates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.store.workspace import Workspace

from ..base import Neighbours, Queries, Retriever, RowSource
from .ranking import reranked
from .registry import build_retriever, index_fields, load_retriever


class CombinedRetriever(Retriever):
    """A search over the indexes of other searches, each saved in a folder of its own.

    Attributes:
        parts: the searches, by the setting that configures each.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.parts: dict[str, Any] = {
            name: build_retriever(part) for name, part in config.parts().items()
        }

    @property
    def exact(self) -> bool:
        return all(part.exact for part in self.parts.values())

    @classmethod
    def index_fields(cls, config: Any) -> dict[str, Any]:
        """Settings of the parts; the others act at search time."""
        return {name: index_fields(part) for name, part in config.parts().items()}

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Builds every part; raises as they do."""
        facts: dict[str, Any] = {}
        for part in reversed(self.parts.values()):  # the dense search, which takes longest, is last
            facts = {**part.build(chunk_ids, tokens, embeddings, workspace), **facts}
        return facts

    def save(self, folder: Path) -> None:
        for name, part in self.parts.items():
            (folder / name).mkdir()
            part.save(folder / name)

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        retriever = cls(config)
        parts = config.parts().items()
        retriever.parts = {name: load_retriever(part, folder / name) for name, part in parts}
        return retriever


class Reranker(CombinedRetriever):
    """The candidates of the first part, of which a subclass scores the first `pool` again.

    Later candidates keep their order, so that a chunk whose pool is its own document still gets
    neighbours.
    """

    def score(self, queries: Queries, ids: np.ndarray) -> np.ndarray:
        """float32 [Q, P], the new scores of chunks `ids` [Q, P], -1 for none."""
        raise NotImplementedError

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The first `pool` candidates by their new score, then the others."""
        pool, first = self.config.pool, next(iter(self.parts.values()))
        found = first.candidates(queries, max(k, pool))
        return reranked(found, pool, k, lambda ids: self.score(queries, ids))

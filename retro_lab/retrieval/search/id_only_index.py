"""Index for searches that store only the ids of the database's chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.store.workspace import Workspace

from ..base import Retriever, RowSource


class IdOnlyIndex(Retriever):
    """The database as int64 [S] `chunk_ids`; subclasses search it."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.chunk_ids = np.empty(0, dtype=np.int64)

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> dict[str, Any]:
        """Stores the ids; ignores tokens and embeddings."""
        self.chunk_ids = chunk_ids
        return {}

    def save(self, folder: Path) -> None:
        np.save(folder / "chunk_ids.npy", self.chunk_ids, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        retriever = cls(config)
        retriever.chunk_ids = np.load(folder / "chunk_ids.npy", mmap_mode="r", allow_pickle=False)
        return retriever

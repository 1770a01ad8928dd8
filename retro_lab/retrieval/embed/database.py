"""Vectors of a database of several corpora, each read from its corpus's embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from retro_lab.text.database import DatabaseStore

from .embedders import Embeddings


class DatabaseEmbeddings(Embeddings):
    """Vectors of a database's chunks."""

    def __init__(self, store: DatabaseStore, sources: list[Embeddings]) -> None:
        super().__init__(sources[0].vectors, sources[0].row)
        self.store, self.sources = store, sources

    def __reduce__(self) -> tuple:
        return type(self), (self.store, self.sources)

    def of(self, ids: np.ndarray) -> NDArray[np.float16]:
        return self._gather(ids, Embeddings.of)

    def queries_of(self, ids: np.ndarray) -> NDArray[np.float16]:
        return self._gather(ids, Embeddings.queries_of)

    def _gather(
        self, ids: np.ndarray, of: Callable[[Embeddings, np.ndarray], np.ndarray]
    ) -> NDArray[np.float16]:
        ids = np.asarray(ids)
        part, place = self.store.part[ids], self.store.place[ids]
        found = np.empty((*ids.shape, self.dim), np.float16)
        for number, described in enumerate(self.store.parts):
            here = part == number
            if here.any():
                found[here] = of(self.sources[described["source"]], place[here])
        return found

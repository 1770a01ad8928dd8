"""Tf-idf on token ids: the simplest lexical search, a baseline for the other retrievers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.config.schema import TfidfRetrieverConfig

from .lexical import LexicalRetriever


class TfidfRetriever(LexicalRetriever):
    """Cosine of tf-idf vectors, as in scikit-learn: idf = 1 + ln((1 + S) / (1 + df)).

    Tokens outside the database are ignored.
    """

    def __init__(self, config: TfidfRetrieverConfig) -> None:
        super().__init__(config)
        self.idf = np.empty(0, dtype=np.float32)  # [V]

    def chunk_weights(self, tokens: np.ndarray, vocabulary: int) -> Any:
        """Tf-idf weights with rows of unit length."""
        from scipy.sparse import coo_array

        rows, columns = np.nonzero(tokens >= 0)
        counts = coo_array(
            (np.ones(len(rows), np.float32), (rows, tokens[rows, columns])),
            shape=(len(tokens), vocabulary),
        ).tocsr()  # sums repeats
        documents = np.bincount(counts.indices, minlength=vocabulary)
        self.idf = (1 + np.log((1 + len(tokens)) / (1 + documents))).astype(np.float32)
        counts.data *= self.idf[counts.indices]
        row = np.repeat(np.arange(len(tokens)), np.diff(counts.indptr))
        squares = np.bincount(row, weights=counts.data.astype(np.float64) ** 2)
        counts.data /= np.sqrt(squares)[row].astype(np.float32)
        return counts

    def query_weights(self, counts: np.ndarray) -> np.ndarray:
        """Tf-idf weights with columns of unit length; zero without a known token."""
        weights = counts * self.idf[:, None]
        rows = np.ascontiguousarray(weights.T, dtype=np.float64)  # independent of the batch
        norms = np.sqrt((rows**2).sum(axis=1))
        return weights / np.maximum(norms, 1e-12).astype(np.float32)

    def save(self, folder: Path) -> None:
        super().save(folder)
        np.save(folder / "idf.npy", self.idf, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, config: TfidfRetrieverConfig) -> Self:
        retriever = super().load(folder, config)
        retriever.idf = np.load(folder / "idf.npy", mmap_mode="r", allow_pickle=False)
        return retriever

"""Lexical search as a sparse matrix product of token weights.

A chunk's score is the sum over tokens of the query's weight times the chunk's. A block of queries
is one sparse matrix product; ties are ordered by id. Subclasses define the two sets of weights.

Shapes: S chunks of the database, V vocabulary, Q queries, P candidates a query.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.store.workspace import Workspace

from ..base import NO_CHUNK, Neighbours, Queries, Retriever, RowSource
from .ranking import best_of_rows

QUERY_BLOCK = 32
CHUNK_BLOCK = 65536
"""Chunks scored at once; bounds the dense block of scores to 8 MB."""

_ARRAYS = ("chunk_ids", "data", "indices", "indptr")


def vocabulary_of(tokens: np.ndarray, retriever: str) -> int:
    """One more than the largest token of the chunks [S, M].

    Raises:
        UserError: no chunk holds text; names the retriever.
    """
    vocabulary = int(tokens.max(initial=-1)) + 1
    if vocabulary == 0:
        raise UserError(
            f"retriever={retriever}: the training split holds no text to index",
            fix="check the corpus, or use retriever=none",
        )
    return vocabulary


class LexicalRetriever(Retriever):
    """Search by token weights; chunks that share no token with the query are left out."""

    def __init__(self, config: Any, *, block: int = CHUNK_BLOCK) -> None:
        self.config = config
        self._block = block  # chunks scored at once
        self.chunk_ids = np.empty(0, dtype=np.int64)
        self.weights: Any = None  # csr_array [S, V], weight of a token in a chunk

    def chunk_weights(self, tokens: np.ndarray, vocabulary: int) -> Any:
        """A sparse float32 array [S, V] of positive weights.

        Args:
            tokens: int32 [S, M], -1 for padding and document boundaries.
            vocabulary: V, one more than the largest token.
        """
        raise NotImplementedError

    def query_weights(self, counts: np.ndarray) -> np.ndarray:
        """float32 [V, Q] weights from token counts of each query, float32 [V, Q]."""
        return counts

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Computes the weight of every token in every chunk; ignores embeddings.

        Raises:
            UserError: no chunk holds text.
        """
        tokens = np.asarray(tokens)
        vocabulary = vocabulary_of(tokens, self.config.name)
        self.chunk_ids = chunk_ids
        self.weights = self.chunk_weights(tokens, vocabulary).tocsr()
        return {"vocabulary": vocabulary, "postings": int(self.weights.nnz)}

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k chunks of highest score among those that share a token with the query.

        Equal queries, such as the same licence at the head of many files, are searched once.
        """
        tokens, place = np.unique(queries.tokens, axis=0, return_inverse=True)
        found = Neighbours.empty(len(tokens), k)
        for start in range(0, len(tokens), QUERY_BLOCK):
            block = slice(start, start + QUERY_BLOCK)
            found.ids[block], found.scores[block] = self._search_block(tokens[block], k)
        return Neighbours(found.ids[place], found.scores[place])

    def scores_of(self, tokens: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Scores of given chunks, including those that share no token with the query.

        Args:
            tokens: int32 [Q, M], the queries.
            ids: int64 [Q, P], chunk ids, -1 for none.

        Returns:
            float32 [Q, P]; 0 without a shared token or a chunk.
        """
        scores = np.zeros(ids.shape, dtype=np.float32)
        for start in range(0, len(ids), QUERY_BLOCK):
            block = slice(start, start + QUERY_BLOCK)
            weights = self._query_block(tokens[block])
            queries, places = np.nonzero(ids[block] != NO_CHUNK)
            rows = self.weights[np.searchsorted(self.chunk_ids, ids[block][queries, places])]
            row = np.repeat(np.arange(len(queries)), np.diff(rows.indptr))
            products = rows.data * weights[rows.indices, queries[row]]
            sums = np.bincount(row, weights=products, minlength=len(queries))
            scores[start + queries, places] = sums
        return scores

    def save(self, folder: Path) -> None:
        arrays = (self.chunk_ids, self.weights.data, self.weights.indices, self.weights.indptr)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        np.save(folder / "shape.npy", np.array(self.weights.shape), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        from scipy.sparse import csr_array

        retriever = cls(config)
        retriever.chunk_ids, *parts = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
        )
        shape = np.load(folder / "shape.npy", allow_pickle=False)
        retriever.weights = csr_array(tuple(parts), shape=tuple(shape.tolist()), copy=False)
        return retriever

    def _query_block(self, tokens: np.ndarray) -> np.ndarray:
        return self.query_weights(_count_tokens(tokens, vocabulary=self.weights.shape[1]))

    def _search_block(self, tokens: np.ndarray, k: int) -> Neighbours:
        weights = self._query_block(tokens)
        hits = []
        for start in range(0, len(self.chunk_ids), self._block):
            scores = self.weights[start : start + self._block] @ weights  # [S block, Q]
            rows, columns, values = _top(np.ascontiguousarray(scores.T), k)
            hits.append((rows, self.chunk_ids[columns + start], values))
        rows, ids, values = (np.concatenate(part) for part in zip(*hits, strict=True))
        return best_of_rows(rows, ids, values, len(tokens), k)


def _count_tokens(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    """float32 [V, Q], counts of each indexed token in each query."""
    counts = np.zeros((vocabulary, len(tokens)), dtype=np.float32)
    queries = np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)
    known = (tokens >= 0) & (tokens < vocabulary)
    np.add.at(counts, (tokens[known], queries[known]), 1)
    return counts


def _top(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and value of every positive score that reaches the row's k-th best."""
    size = scores.shape[1]
    if k < size:
        threshold = np.partition(scores, size - k, axis=1)[:, size - k, None]
        kept = (scores >= threshold) & (scores > 0)
    else:
        kept = scores > 0
    rows, columns = np.nonzero(kept)
    return rows, columns, scores[kept]

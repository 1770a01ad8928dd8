"""BM25 on token ids: surface overlap, which lowers RETRO's perplexity more than dense retrieval.

(Doostmohammadi et al., "Surface-based retrieval reduces perplexity of retrieval-augmented language
models", 2023.) bm25s computes the score of every token in every chunk; a query's score is the sum
over its tokens, repeats included. Its own `retrieve` leaves the order of equal scores open and sums
one query at a time; here a block of queries is one sparse matrix product (1.7 times as fast on 20k
chunks of 64 tokens), and ties are in order.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Bm25RetrieverConfig
from retro_lab.retrieval.base import Neighbours, Queries
from retro_lab.retrieval.ranking import best_of_rows

_QUERY_BLOCK = 32
_CHUNK_BLOCK = 65536  # chunks scored at once: bounds the dense block of scores to 8 MB
_ARRAYS = ("chunk_ids", "data", "indices", "indptr")


class Bm25Retriever:
    """Lexical search; chunks that share no token with the query are no candidates."""

    needs_embeddings = Bm25RetrieverConfig.needs_embeddings
    approximates = None

    def __init__(self, config: Bm25RetrieverConfig) -> None:
        self.config = config
        self.chunk_ids = np.empty(0, dtype=np.int64)
        self.weights: Any = None  # csr_array [S, V], score of a token in a chunk

    @classmethod
    def index_fields(cls, config: Bm25RetrieverConfig) -> dict[str, Any]:
        """Both settings are part of the stored scores."""
        return {"k1": config.k1, "b": config.b}

    def build(
        self, chunk_ids: np.ndarray, tokens: np.ndarray, embeddings: np.ndarray | None
    ) -> dict[str, Any]:
        """Score every token of every chunk (Lucene's variant of BM25); embeddings aren't read.

        Raises:
            UserError: no chunk holds any text.
        """
        from scipy.sparse import csc_array

        vocabulary = int(tokens.max(initial=-1)) + 1
        if vocabulary == 0:
            raise UserError(
                "retriever=bm25: the training split holds no text to index",
                fix="check the corpus, or use retriever=none",
            )
        bm25s = _import_bm25s()
        scorer = bm25s.BM25(
            k1=self.config.k1, b=self.config.b, method="lucene", csc_backend="scipy"
        )
        scores = scorer.build_index_from_ids(
            unique_token_ids=list(range(vocabulary)),
            corpus_token_ids=_TokenLists(tokens),
            show_progress=False,
        )
        columns = csc_array(
            (scores["data"], scores["indices"], scores["indptr"]),
            shape=(len(chunk_ids), vocabulary),
        )
        self.chunk_ids, self.weights = chunk_ids, columns.tocsr()
        return {"vocabulary": vocabulary, "postings": int(columns.nnz)}

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k chunks of highest BM25 score, among those that share a token with the query."""
        found = Neighbours.empty(len(queries.tokens), k)
        for start in range(0, len(found.ids), _QUERY_BLOCK):
            block = slice(start, start + _QUERY_BLOCK)
            found.ids[block], found.scores[block] = self._search_block(queries.tokens[block], k)
        return found

    def save(self, folder: Path) -> None:
        arrays = (self.chunk_ids, self.weights.data, self.weights.indices, self.weights.indptr)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        np.save(folder / "shape.npy", np.array(self.weights.shape), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, config: Bm25RetrieverConfig) -> Self:
        from scipy.sparse import csr_array

        retriever = cls(config)
        retriever.chunk_ids, *parts = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
        )
        shape = np.load(folder / "shape.npy", allow_pickle=False)
        retriever.weights = csr_array(tuple(parts), shape=tuple(shape.tolist()), copy=False)
        return retriever

    def _search_block(self, tokens: np.ndarray, k: int) -> Neighbours:
        counts = _count_tokens(tokens, vocabulary=self.weights.shape[1])  # [V, Q]
        hits = []
        for start in range(0, len(self.chunk_ids), _CHUNK_BLOCK):
            scores = self.weights[start : start + _CHUNK_BLOCK] @ counts  # [S block, Q]
            rows, columns, values = _top(np.ascontiguousarray(scores.T), k)
            hits.append((rows, self.chunk_ids[columns + start], values))
        rows, ids, values = (np.concatenate(part) for part in zip(*hits, strict=True))
        return best_of_rows(rows, ids, values, len(tokens), k)


class _TokenLists(Sequence[list[int]]):
    """The chunks as bm25s wants them, lists of ids without padding, made one at a time."""

    def __init__(self, tokens: np.ndarray) -> None:
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._tokens[index]
        return row[row >= 0].tolist()


def _import_bm25s() -> Any:
    """bm25s without the DEBUG level that it sets on its logger when imported."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.NOTSET)
    return bm25s


def _count_tokens(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    """float32 [V, Q]: how often each query holds each token that the index knows."""
    counts = np.zeros((vocabulary, len(tokens)), dtype=np.float32)
    queries = np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)
    known = (tokens >= 0) & (tokens < vocabulary)
    np.add.at(counts, (tokens[known], queries[known]), 1)
    return counts


def _top(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and value of every positive score that is no less than the row's k-th best."""
    size = scores.shape[1]
    if k < size:
        threshold = np.partition(scores, size - k, axis=1)[:, size - k, None]
        kept = (scores >= threshold) & (scores > 0)
    else:
        kept = scores > 0
    rows, columns = np.nonzero(kept)
    return rows, columns, scores[kept]

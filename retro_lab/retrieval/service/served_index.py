"""The search service without HTTP: from requests to queries, from chunks to hits.

A stored chunk is searched with the store's own vectors and texts, as a search in process would be.
Other text goes through the run's tokenizer and embedder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import FaissRetrieverConfig, RetrieverConfig
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus
from retro_lab.text.tokenizers import Tokenizer

from ..base import (
    NO_CHUNK,
    NO_TOKEN,
    Neighbours,
    Queries,
    Retriever,
    chunk_queries,
    text_tokens,
)
from ..embed.embedders import Embedder, Embeddings, embed_queries
from .client import chunks_key


@dataclass(frozen=True)
class Hit:
    """A chunk found by a search.

    Attributes:
        chunk_id: its global id.
        score: higher is better; on the retriever's own scale.
        document_id: the document's id in the corpus.
        text: raw text of the chunk.
        continuation: raw text of the document's next chunk; empty at its end.
    """

    chunk_id: int
    score: float
    document_id: str
    text: str
    continuation: str


@dataclass(frozen=True)
class ServedIndex:
    """A run's index with everything needed to search it by text.

    Attributes:
        config: the retriever's configuration.
        key: key of the index and its search settings.
        retriever: loaded.
        chunks: the store that ids refer to.
        corpus: its raw text.
        tokenizer: the store's.
        embedder: embeds queries; None if the retriever needs no embeddings.
        embeddings: vectors of the store's chunks, or None.
    """

    config: RetrieverConfig
    key: str
    retriever: Retriever
    chunks: ChunkStore
    corpus: Corpus
    tokenizer: Tokenizer
    embedder: Embedder | None = None
    embeddings: Embeddings | None = None

    @cached_property
    def chunks_key(self) -> str:
        """Content key of the searched database, as computed by a client."""
        return chunks_key(self._database, self._tokens_of(self._database))

    @cached_property
    def size(self) -> int:
        """Number of searched chunks."""
        return len(self._database)

    @cached_property
    def _database(self) -> np.ndarray:
        return self.chunks.searched

    def search_texts(self, texts: list[str], k: int) -> list[list[Hit]]:
        """Hits of each text, best first, at most k."""
        encoded = self.tokenizer.encode_batch(texts)
        return self._hits(self._outside([e.ids for e in encoded], texts, None), k)

    def search_tokens(self, tokens: list[list[int]], k: int) -> list[list[Hit]]:
        """Hits of each row of token ids; a dense search embeds their text.

        Raises:
            UserError: an id is outside the vocabulary.
        """
        return self._hits(self._outside_tokens(tokens, None), k)

    def search_embeddings(self, embeddings: list[list[float]], k: int) -> list[list[Hit]]:
        """Hits of each vector.

        Raises:
            UserError: the index needs more than vectors, or has another width.
        """
        if not isinstance(self.config, FaissRetrieverConfig):
            raise UserError(
                f"retriever={self.config.name} is not searched by embeddings alone",
                fix="ask with texts or tokens",
            )
        vectors = self._vectors(embeddings)
        return self._hits(self._outside([np.empty(0, np.int32)] * len(vectors), [], vectors), k)

    def candidates(
        self,
        chunk_ids: list[int],
        tokens: list[list[int]],
        embeddings: list[list[float]] | None,
        k: int,
    ) -> Neighbours:
        """Candidates of each query as from `Retriever.candidates`, its own document included.

        Args:
            chunk_ids: Q ids of stored chunks, or -1 for other text.
            tokens: Q rows; those of stored chunks must equal the store's.
            embeddings: Q rows, used where the id is -1; None to compute them here.
            k: candidates a query.

        Raises:
            UserError: the chunks differ from this store's.
        """
        ids = np.array(chunk_ids, dtype=np.int64)
        found = Neighbours.empty(len(ids), k)
        stored, outside = np.flatnonzero(ids >= 0), np.flatnonzero(ids < 0)
        if len(stored):
            self._check_stored(ids[stored], [tokens[row] for row in stored])
            queries = chunk_queries(self.chunks, self.embeddings, ids[stored], self._texts_of)
            found.ids[stored], found.scores[stored] = self.retriever.candidates(queries, k)
        if len(outside):
            vectors = None if embeddings is None else self._vectors(embeddings)[outside]
            queries = self._outside_tokens([tokens[row] for row in outside], vectors)
            found.ids[outside], found.scores[outside] = self.retriever.candidates(queries, k)
        return found

    def _check_stored(self, ids: np.ndarray, tokens: list[list[int]]) -> None:
        known = ids < self.chunks.num_chunks
        here = self._tokens_of(ids[known]).tolist()
        asked = [row for row, is_known in zip(tokens, known, strict=True) if is_known]
        if not known.all() or here != asked:
            raise UserError(
                "the chunks that were asked about are not those of this chunk store",
                fix="serve a run with the same corpus, splits, tokenizer and chunk size",
            )

    def _outside_tokens(self, tokens: list[list[int]], vectors: np.ndarray | None) -> Queries:
        rows = [np.array(row, dtype=np.int64) for row in tokens]
        low = min((int(row.min(initial=0)) for row in rows), default=0)
        high = max((int(row.max(initial=0)) for row in rows), default=0)
        if low < NO_TOKEN or high >= self.chunks.vocab_size:
            raise UserError(
                f"token {low if low < NO_TOKEN else high} is not in the vocabulary",
                fix=f"the served run's tokenizer has ids from 0 to {self.chunks.vocab_size - 1}",
            )
        texts: list[str] = []
        if self.config.needs_texts or (vectors is None and self.embedder is not None):
            texts = [self.tokenizer.decode(row[row != NO_TOKEN].tolist()) for row in rows]
        return self._outside(rows, texts, vectors)

    def _outside(
        self, rows: list[np.ndarray], texts: list[str], vectors: np.ndarray | None
    ) -> Queries:
        """Queries outside the store; embeds `texts` if vectors are needed and None."""
        tokens = np.full((len(rows), max(1, *map(len, rows))), NO_TOKEN, dtype=np.int64)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = row
        if vectors is None and self.embedder is not None:
            vectors = embed_queries(self.embedder, texts)
        nowhere = np.full(len(rows), NO_CHUNK, dtype=np.int64)
        tokens = text_tokens(tokens, self.chunks.pad_id, self.chunks.boundary_id)
        return Queries(
            tokens, vectors, nowhere, nowhere, text_of=self._texts_of, texts=texts or None
        )

    def _vectors(self, embeddings: list[list[float]]) -> np.ndarray:
        dim = 0 if self.embeddings is None else self.embeddings.dim
        wrong = {len(row) for row in embeddings} - {dim}
        if wrong:
            raise UserError(
                f"an embedding of {wrong.pop()} numbers, but the index has vectors of {dim}",
                fix="embed with the served run's embedder, or ask with texts",
            )
        with np.errstate(over="ignore"):
            vectors = np.array(embeddings, dtype=np.float32)
            lengths = np.linalg.norm(vectors, axis=1)
        if not np.isfinite(lengths).all():
            raise UserError(
                "an embedding is too long for single precision, so that scores would be infinite",
                fix="scale it: the index has vectors of about length 1",
            )
        return vectors

    def _hits(self, queries: Queries, k: int) -> list[list[Hit]]:
        found = self.retriever.candidates(queries, k)
        present = found.ids != NO_CHUNK
        ids, scores = found.ids[present], found.scores[present]
        document = self.chunks.document[ids]
        ends = ids + 1 == self.chunks.first_chunk[document + 1]
        continuation = self._texts_of(np.where(ends, ids, ids + 1))
        hits = [
            Hit(chunk, score, self.corpus.ids[document], text, "" if end else after)
            for chunk, score, document, text, after, end in zip(
                ids.tolist(),
                scores.tolist(),
                document.tolist(),
                self._texts_of(ids),
                continuation,
                ends.tolist(),
                strict=True,
            )
        ]
        stops = np.cumsum(present.sum(axis=1)).tolist()
        return [hits[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]

    def _tokens_of(self, ids: np.ndarray) -> np.ndarray:
        return text_tokens(self.chunks.tokens[ids], self.chunks.pad_id, self.chunks.boundary_id)

    def _texts_of(self, ids: np.ndarray) -> list[str]:
        return self.chunks.texts(ids, self.corpus)

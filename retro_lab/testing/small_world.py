"""A corpus and a chunk store in memory: few words, many repeats, so that ties and copies abound."""

from __future__ import annotations

import numpy as np

from retro_lab.retrieval.base import Queries, text_tokens
from retro_lab.retrieval.embed.embedders import Embeddings
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus

WORDS = 40  # token i is the word "w<i>"
BOUNDARY, PAD, VOCABULARY = 40, 41, 42
CHUNK = 6


class SmallCorpus(Corpus):
    """Text only: what `raw_span` reads."""

    def __init__(self, text: bytes) -> None:
        self._text = np.frombuffer(text, np.uint8)


class SmallChunks(ChunkStore):
    """Documents of random words; every fifth chunk of a document copies one of the one before.

    Args:
        lengths: chunks of each document.
        splits: 0 train, 1 validation, 2 test, for each document.
        empty: documents without text: one chunk of a boundary and padding.
    """

    def __init__(
        self, lengths: list[int], splits: list[int], *, empty: tuple[int, ...] = (), seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.boundary_id, self.pad_id, self.vocab_size = BOUNDARY, PAD, VOCABULARY
        self.document = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
        self.split = np.array(splits, np.uint8)[self.document]
        self.tokens = rng.integers(0, WORDS, (len(self.document), CHUNK)).astype(np.uint16)
        copies = np.arange(5, len(self.document), 5)
        self.tokens[copies] = self.tokens[np.maximum(copies - rng.integers(1, 40, len(copies)), 0)]
        self.first_chunk = np.cumsum([0, *lengths])
        self.tokens[self.first_chunk[:-1], 0] = BOUNDARY
        self.tokens[self.first_chunk[1:] - 1, 4:] = PAD
        for document in empty:
            self.tokens[self.first_chunk[document], 1:] = PAD
        text, self.token_bytes = b"", np.zeros(self.tokens.shape, np.uint32)
        self.text_start = np.zeros(len(self.tokens), np.int64)
        for chunk, row in enumerate(self.tokens):
            self.text_start[chunk] = len(text)
            for place, token in enumerate(row):
                word = f"w{token} ".encode() if token < WORDS else b""
                self.token_bytes[chunk, place] = len(word)
                text += word
        self.corpus = SmallCorpus(text)


def small_chunks() -> SmallChunks:
    """About a thousand chunks, 50 documents: 40 train, 5 validation, 5 test; one is empty."""
    lengths = [1] + [5 + (7 * i) % 33 for i in range(49)]
    splits = [0] * 40 + [1] * 5 + [2] * 5
    return SmallChunks(lengths, splits, empty=(0,))


def bag_of_words(chunks: SmallChunks, *, two_sided: bool = False) -> Embeddings:
    """Unit vectors of 48 numbers: random projections of word counts, equal for equal chunks.

    Args:
        two_sided: queries are projected in another way than keys.
    """
    sides = [_projected(chunks, seed) for seed in ((1, 2) if two_sided else (1,))]
    rows = np.arange(len(sides[0]), dtype=np.int32)
    return Embeddings(sides[0], rows, sides[1] if two_sided else None)


def _projected(chunks: SmallChunks, seed: int) -> np.ndarray:
    words = np.random.default_rng(seed).standard_normal((VOCABULARY, 48))
    words[[BOUNDARY, PAD]] = 0
    vectors = words[chunks.tokens].sum(axis=1)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors.astype(np.float16)


def make_queries(tokens: np.ndarray, document: np.ndarray | None = None) -> Queries:
    """Queries of tokens alone, numbered from 0."""
    ids = np.arange(len(tokens))
    document = np.full(len(tokens), -1) if document is None else document
    return Queries(text_tokens(tokens, PAD, BOUNDARY), None, document, ids)

"""A chunk store in memory, of few letters so that contexts recur."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.memory.context_reader import ContextReader
from retro_lab.memory.sorted_contexts import LONGEST, Segment, sort_contexts
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import SPLITS

LETTERS, BOUNDARY, PAD, VOCABULARY = 8, 8, 9, 10


class SmallDatabase(ChunkStore):
    """`ChunkStore` over arrays in memory rather than files.

    Args:
        documents: tokens of each, without its boundary token.
        splits: of each document; all train unless given.
        silent: chunks whose tokens account for no byte.
        scale: factor of all token ids.

    Attributes:
        full_texts: tokens of each document, its boundary token first.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[int]],
        chunk_size: int = 4,
        *,
        splits: Sequence[str] | None = None,
        silent: Sequence[int] = (),
        dtype: type[np.integer] = np.uint16,
        scale: int = 1,
    ) -> None:
        self.boundary_id, self.pad_id = BOUNDARY * scale, PAD * scale
        self.vocab_size = VOCABULARY * scale
        self.full_texts = [[BOUNDARY * scale, *(scale * token for token in d)] for d in documents]
        counts = [-(-len(text) // chunk_size) for text in self.full_texts]
        self.first_chunk = np.cumsum([0, *counts])
        self.tokens = np.full((sum(counts), chunk_size), self.pad_id, dtype)
        self.token_bytes = np.zeros(self.tokens.shape, np.uint32)
        for first, text in zip(self.first_chunk.tolist(), self.full_texts, strict=False):
            start = first * chunk_size
            self.tokens.reshape(-1)[start : start + len(text)] = text
            self.token_bytes.reshape(-1)[start + 1 : start + len(text)] = 1
        self.token_bytes[list(silent)] = 0
        self.document = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        self.index = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
        codes = [SPLITS.index(split) for split in splits or ["train"] * len(counts)]
        self.split = np.array(codes, np.uint8)[self.document]


def random_documents(seed: int, *, letters: int = 3, count: int = 6, longest: int = 60) -> list:
    """Documents of no token, of one and of more; some spell the boundary, some copy another."""
    rng = np.random.default_rng(seed)
    documents = [[], [0], *(rng.integers(0, letters, rng.integers(longest)) for _ in range(count))]
    documents = [np.where(rng.random(len(d)) < 0.05, BOUNDARY, d).tolist() for d in documents]
    copied = documents[int(rng.integers(2, len(documents)))]
    documents[int(rng.integers(2, len(documents)))] += copied[int(rng.integers(1 + len(copied))) :]
    return [documents[at] for at in rng.permutation(len(documents)).tolist()]


class Occurrence(NamedTuple):
    """A token of a database: its context, last token first, its place, itself, its document."""

    context: tuple[int, ...]
    place: int
    token: int
    document: int


def context_at(text: Sequence[int], place: int) -> tuple[int, ...]:
    """The tokens before a place, the last one first."""
    return tuple(text[max(0, place - LONGEST) : place][::-1])


def in_order(chunks: SmallDatabase, documents: Sequence[int]) -> list[Occurrence]:
    """The tokens of these documents, sorted by context and then by place."""
    found = []
    for document in documents:
        text = chunks.full_texts[document]
        first = int(chunks.first_chunk[document]) * chunks.chunk_size
        found += [
            Occurrence(context_at(text, at), first + at, text[at], document)
            for at in range(1, len(text))
        ]
    return sorted(found)


def cut(chunks: SmallDatabase, cuts: Sequence[int]) -> tuple[list[Segment], list[list[int]]]:
    """Sorted contexts of all documents, in segments that start at these documents, and whose."""
    inner = {cut for cut in cuts if 0 < cut < chunks.num_documents}
    owned = [list(range(*pair)) for pair in pairwise([0, *sorted(inner), chunks.num_documents])]
    chunk_of = [np.flatnonzero(np.isin(chunks.document, documents)) for documents in owned]
    return [sort_contexts(chunks, ids) for ids in chunk_of], owned


def padded(contexts: Sequence[tuple[int, ...]]) -> NDArray[np.int32]:
    """[T, LONGEST], -1 beyond the document's start."""
    return np.array([[*c, *[-1] * (LONGEST - len(c))] for c in contexts], np.int32)


def whole_reader(chunks: SmallDatabase, **settings) -> ContextReader:
    """A reader of all documents in one segment."""
    return ContextReader(chunks, cut(chunks, [])[0], **settings)

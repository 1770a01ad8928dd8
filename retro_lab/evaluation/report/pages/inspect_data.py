"""Data of the inspection page: a document token by token, with the text that was read beside it.

The neighbours beside a chunk are those of the previous chunk, which the model reads while it
predicts the chunk. The documents that a memory leans on are in `inspect_memory`.

Shapes: c chunks of the document, M tokens a chunk, R tokens of a neighbour with its continuation.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retro_lab.retrieval.table import NeighbourTable
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus

from ...measure.exact_overlap import covered
from ...measure.metrics import MemoryShares
from .inspect_text import Marks, ShownText, Span

MINIMUM_RUN = 8  # tokens of the shortest run that is marked


@dataclass(frozen=True)
class ReadNeighbour:
    """A neighbour that the model read.

    Attributes:
        document: id of its document.
        index: number of its chunk within the document, from 0.
        score: retrieval score.
        spans: text of the chunk.
        continuation: text of the continuation.
    """

    document: str
    index: int
    score: float
    spans: list[Span]
    continuation: list[Span]


@dataclass(frozen=True)
class LeanedDocument:
    """A document of the database that tokens of a chunk lean on.

    Attributes:
        document: its id.
        share: sum of the memory's share over the tokens that lean on it.
        tokens: number of these tokens.
        match: tokens of their longest context that stands in the document, at most `LONGEST`.
        spans: text around that context; it and the token after it are `shared`.
    """

    document: str
    share: float
    tokens: int
    match: int
    spans: list[Span]


@dataclass(frozen=True)
class InspectedChunk:
    """A chunk and what was read to predict it.

    Attributes:
        index: number of the chunk within the document, from 0.
        spans: its text.
        beside: what was read, best first: neighbours, or a memory's documents.
        overlap: r(C); None if not measured.
    """

    index: int
    spans: list[Span]
    beside: Sequence[ReadNeighbour | LeanedDocument]
    overlap: float | None = None

    @property
    def gain(self) -> float:
        """Nats gained on the chunk."""
        return sum(span.gain or 0.0 for span in self.spans)


@dataclass(frozen=True)
class InspectedDocument:
    """A document, chunk by chunk."""

    name: str
    num_bytes: int
    chunks: list[InspectedChunk]

    @property
    def gain(self) -> float:
        """Nats gained on the document."""
        return sum(chunk.gain for chunk in self.chunks)


class Beside(Protocol):
    """Finds what is shown beside a chunk."""

    def of(
        self, chunk: int, memory: MemoryShares | None
    ) -> tuple[Sequence[ReadNeighbour | LeanedDocument], NDArray[np.bool_]]:
        """What was read to predict a chunk, and [M] which of its tokens are marked as shared.

        Args:
            memory: [M] each, what a memory gave to the tokens.
        """
        ...


@dataclass(frozen=True)
class Inspection:
    """Collects the data of inspected documents.

    Attributes:
        chunks: chunks of the corpus.
        corpus: raw text.
        beside: what is shown beside a chunk.
    """

    chunks: ChunkStore
    corpus: Corpus
    beside: Beside

    @cached_property
    def _text(self) -> ShownText:
        return ShownText(self.chunks, self.corpus)

    def document(
        self,
        document: int,
        gain: NDArray[np.floating],
        matching: NDArray[np.integer] | None = None,
        memory: MemoryShares | None = None,
        overlap: NDArray[np.floating] | None = None,
    ) -> InspectedDocument:
        """The data of one document.

        Args:
            document: number in the corpus.
            gain: [c, M] nats gained on each token (baseline minus on); values of padding and
                boundary tokens are ignored.
            matching: [c, M] longest runs shared with the training text, from the stage
                `exact_overlap`; None marks no leaked text.
            memory: [c, M] each, what a memory gave to the tokens.
            overlap: [c] r(C); None if not measured.

        Raises:
            ValueError: the arrays do not have the shape of the document.
        """
        first, last = (int(c) for c in self.chunks.first_chunk[document : document + 2])
        shape = (last - first, self.chunks.chunk_size)
        if gain.shape != shape or (matching is not None and matching.shape != shape):
            raise ValueError(f"document {document} has {shape[0]} chunks of {shape[1]} tokens")
        leaked = np.zeros(shape, np.bool_)
        if matching is not None:
            leaked = covered(matching.reshape(-1), MINIMUM_RUN).reshape(shape)
        found = []
        for row, chunk in enumerate(range(first, last)):
            paid = None if memory is None else memory[row]
            beside, shared = self.beside.of(chunk, paid)
            spans = self._text.spans(chunk, Marks(shared, gain[row], leaked[row], paid))
            ratio = None if overlap is None else float(overlap[row])
            index = int(self.chunks.index[chunk])
            found.append(InspectedChunk(index, list(spans), beside, ratio))
        num_bytes = len(self.corpus.raw(document))
        return InspectedDocument(self.corpus.ids[document], num_bytes, found)


@dataclass(frozen=True)
class ReadNeighbours:
    """The neighbours of the previous chunk.

    Attributes:
        text: of the corpus and the database.
        table: neighbours of every chunk.
        k: neighbours read.
        continuation_chunks: following chunks read with each neighbour.
    """

    text: ShownText
    table: NeighbourTable
    k: int
    continuation_chunks: int = 1

    def of(
        self, chunk: int, memory: MemoryShares | None
    ) -> tuple[list[ReadNeighbour], NDArray[np.bool_]]:
        chunks = self.text.chunks
        tokens = np.asarray(chunks.tokens[chunk])
        shared = np.zeros(len(tokens), np.bool_)
        found = []
        is_first = int(chunks.index[chunk]) == 0
        read = [] if is_first else [int(c) for c in self.table.ids[chunk - 1, : self.k]]
        for rank, neighbour in enumerate(read):
            if neighbour < 0:
                continue
            values = chunks.values([neighbour], self.continuation_chunks)[0]
            special = (chunks.pad_id, chunks.boundary_id)
            here, there = shared_tokens(tokens, values, special, MINIMUM_RUN)
            shared |= here
            score = float(self.table.scores[chunk - 1, rank])
            found.append(self._neighbour(neighbour, score, there))
        return found, shared

    def _neighbour(self, chunk: int, score: float, shared: NDArray[np.bool_]) -> ReadNeighbour:
        chunks = self.text.chunks
        document, size = int(chunks.document[chunk]), chunks.chunk_size
        end = min(chunk + 1 + self.continuation_chunks, int(chunks.first_chunk[document + 1]))
        parts = [
            list(self.text.spans(c, Marks(shared[(c - chunk) * size : (c - chunk + 1) * size])))
            for c in range(chunk, end)
        ]
        name, index = self.text.corpus.ids[document], int(chunks.index[chunk])
        return ReadNeighbour(name, index, score, parts[0], list(chain(*parts[1:])))


def shared_tokens(
    a: NDArray[np.integer], b: NDArray[np.integer], special: Collection[int], minimum: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """bool [M] and [R]: tokens of `a` and of `b` in a common run of at least `minimum` tokens.

    Args:
        a: [M] token ids.
        b: [R] token ids.
        special: ids that match nothing.
    """
    alike = (a[:, None] == b[None]) & ~np.isin(a, list(special))[:, None]
    run = np.zeros((len(a) + 1, len(b) + 1), np.int32)  # length of the run ending at this pair
    for i, row in enumerate(alike):
        run[i + 1, 1:] = np.where(row, run[i, :-1] + 1, 0)
    marked = np.zeros_like(run, np.bool_)
    for i in range(len(a), 0, -1):
        goes_on = np.append(marked[i + 1, 1:], False) if i < len(a) else False
        marked[i] = (run[i] >= minimum) | (goes_on & (run[i] > 0))
    return np.any(marked[1:], axis=1), np.any(marked[:, 1:], axis=0)

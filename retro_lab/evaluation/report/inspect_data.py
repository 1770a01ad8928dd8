"""Data of the inspection page: a document token by token, with the neighbours read.

The neighbours beside a chunk are those of the previous chunk, which the model reads while it
predicts the chunk.

Shapes: c chunks of the document, M tokens a chunk, R tokens of a neighbour with its continuation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from retro_lab.retrieval.table import NeighbourTable
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus

from ..measure.exact_overlap import covered


@dataclass(frozen=True)
class Span:
    """The text of a token, or of several tokens that share a character.

    Attributes:
        text: at least one character.
        gain: nats gained; None if not scored.
        shared: whether it lies in a run shared with the text beside it.
        leaked: whether it lies in a run that occurs in the training text; False if unknown.
    """

    text: str
    gain: float | None
    shared: bool
    leaked: bool = False


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
class InspectedChunk:
    """A chunk and the neighbours read to predict it, best first."""

    index: int
    spans: list[Span]
    neighbours: list[ReadNeighbour]

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


@dataclass(frozen=True)
class Inspection:
    """Collects the data of inspected documents.

    Attributes:
        chunks: chunks of the corpus.
        corpus: raw text.
        table: neighbours of every chunk.
        k: neighbours read.
        continuation_chunks: following chunks read with each neighbour.
        minimum_run: tokens of the shortest run that is marked.
    """

    chunks: ChunkStore
    corpus: Corpus
    table: NeighbourTable
    k: int
    continuation_chunks: int = 1
    minimum_run: int = 8

    def document(
        self,
        document: int,
        gain: NDArray[np.floating],
        matching: NDArray[np.integer] | None = None,
    ) -> InspectedDocument:
        """The data of one document.

        Args:
            document: number in the corpus.
            gain: [c, M] nats gained on each token (baseline minus on); values of padding and
                boundary tokens are ignored.
            matching: [c, M] longest runs shared with the training text, from the stage
                `exact_overlap`; None marks no leaked text.

        Raises:
            ValueError: the arrays do not have the shape of the document.
        """
        first, last = (int(c) for c in self.chunks.first_chunk[document : document + 2])
        shape = (last - first, self.chunks.chunk_size)
        if gain.shape != shape or (matching is not None and matching.shape != shape):
            raise ValueError(f"document {document} has {shape[0]} chunks of {shape[1]} tokens")
        leaked = np.zeros(shape, np.bool_)
        if matching is not None:
            leaked = covered(matching.reshape(-1), self.minimum_run).reshape(shape)
        found = [
            self._chunk(chunk, gain[chunk - first], leaked[chunk - first], chunk == first)
            for chunk in range(first, last)
        ]
        num_bytes = len(self.corpus.raw(document))
        return InspectedDocument(self.corpus.ids[document], num_bytes, found)

    def _chunk(
        self, chunk: int, gain: NDArray, leaked: NDArray[np.bool_], is_first: bool
    ) -> InspectedChunk:
        tokens = np.asarray(self.chunks.tokens[chunk])
        shared = np.zeros(len(tokens), np.bool_)
        neighbours = []
        read = [] if is_first else [int(c) for c in self.table.ids[chunk - 1, : self.k]]
        for rank, neighbour in enumerate(read):
            if neighbour < 0:
                continue
            values = self.chunks.values([neighbour], self.continuation_chunks)[0]
            special = (self.chunks.pad_id, self.chunks.boundary_id)
            here, there = shared_tokens(tokens, values, special, self.minimum_run)
            shared |= here
            score = float(self.table.scores[chunk - 1, rank])
            neighbours.append(self._neighbour(neighbour, score, there))
        spans = self._spans(chunk, gain, shared, leaked)
        return InspectedChunk(int(self.chunks.index[chunk]), list(spans), neighbours)

    def _neighbour(self, chunk: int, score: float, shared: NDArray[np.bool_]) -> ReadNeighbour:
        document, size = int(self.chunks.document[chunk]), self.chunks.chunk_size
        end = min(chunk + 1 + self.continuation_chunks, int(self.chunks.first_chunk[document + 1]))
        parts = [
            list(self._spans(c, None, shared[(c - chunk) * size : (c - chunk + 1) * size], None))
            for c in range(chunk, end)
        ]
        name, index = self.corpus.ids[document], int(self.chunks.index[chunk])
        return ReadNeighbour(name, index, score, parts[0], list(chain(*parts[1:])))

    def _spans(
        self,
        chunk: int,
        gain: NDArray | None,
        shared: NDArray[np.bool_],
        leaked: NDArray[np.bool_] | None,
    ) -> Iterator[Span]:
        """Yields the text of a chunk's tokens; tokens that share a character are one span."""
        start, stop = self.chunks.text_span(chunk)
        raw = self.corpus.raw_span(start, stop)
        ends = np.cumsum(self.chunks.token_bytes[chunk], dtype=np.int64)
        special = np.isin(self.chunks.tokens[chunk], [self.chunks.pad_id, self.chunks.boundary_id])
        group: list[int] = []
        begin = 0
        for place in np.flatnonzero(~special).tolist():
            group.append(place)
            end = int(ends[place])
            if end == begin or (end < len(raw) and _inside_character(raw[end])):
                continue
            text = raw[begin:end].decode(errors="replace")
            nats = None if gain is None else float(gain[group].sum())
            marked = False if leaked is None else bool(leaked[group].any())
            yield Span(text, nats, bool(shared[group].any()), marked)
            group, begin = [], end


def _inside_character(byte: int) -> bool:
    """Whether a UTF-8 byte continues a character."""
    return byte & 0xC0 == 0x80


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

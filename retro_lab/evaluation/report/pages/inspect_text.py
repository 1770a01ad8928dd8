"""Text of a corpus as spans that a page marks and colours.

Legend: M tokens a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus

from ...measure.metrics import MemoryShares


@dataclass(frozen=True)
class Span:
    """The text of a token, or of several tokens that share a character.

    Attributes:
        text: at least one character.
        gain: nats gained; None if not scored.
        shared: whether it lies in a run shared with the text beside it.
        leaked: whether it lies in a run that occurs in the training text; False if unknown.
        share: part of the token's probability that a memory gave, the largest of several tokens;
            None if not known.
        expert: of the memory, that gave most of it; empty if the model gave more than all.
    """

    text: str
    gain: float | None
    shared: bool
    leaked: bool = False
    share: float | None = None
    expert: str = ""


class Marks(NamedTuple):
    """What is known of the tokens of a chunk; [M] each, None if nothing is.

    Attributes:
        shared: bool, whether they lie in a run shared with the text beside them.
        gain: nats gained.
        leaked: bool, whether they lie in a run that occurs in the training text.
        memory: what a memory gave to them.
    """

    shared: NDArray[np.bool_]
    gain: NDArray[np.floating] | None = None
    leaked: NDArray[np.bool_] | None = None
    memory: MemoryShares | None = None

    def span(self, text: str, places: list[int]) -> Span:
        """The text of these tokens, marked."""
        gain = None if self.gain is None else float(self.gain[places].sum())
        leaked = False if self.leaked is None else bool(self.leaked[places].any())
        share, expert = None, ""
        if self.memory is not None:
            most = places[int(self.memory.share[places].argmax())]
            share, expert = float(self.memory.share[most]), self.memory.name(most)
        return Span(text, gain, bool(self.shared[places].any()), leaked, share, expert)


@dataclass(frozen=True)
class ShownText:
    """Makes spans of the text of chunks.

    Attributes:
        chunks: the chunks.
        corpus: their raw text.
    """

    chunks: ChunkStore
    corpus: Corpus

    def spans(self, chunk: int, marks: Marks) -> Iterator[Span]:
        """Yields the marked text of a chunk."""
        for text, places in self._texts(chunk):
            yield marks.span(text, places)

    def excerpt(self, places: range, marked: range) -> Iterator[Span]:
        """Yields the text of tokens at flat places; those of `marked` are shared."""
        size = self.chunks.chunk_size
        for chunk in range(places.start // size, -(-places.stop // size)):
            for text, within in self._texts(chunk):
                flat = [chunk * size + place for place in within]
                if flat[-1] in places:
                    yield Span(text, None, any(place in marked for place in flat))

    def _texts(self, chunk: int) -> Iterator[tuple[str, list[int]]]:
        """Yields the texts of a chunk's tokens and their places in it; tokens that share a
        character have one text.
        """
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
            yield raw[begin:end].decode(errors="replace"), group
            group, begin = [], end


def _inside_character(byte: int) -> bool:
    """Whether a UTF-8 byte continues a character."""
    return byte & 0xC0 == 0x80

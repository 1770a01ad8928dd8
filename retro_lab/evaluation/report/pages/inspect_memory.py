"""The documents of a database that a memory leans on, for the inspection page.

A token leans on the documents in which it follows its longest context. What a memory's topics weigh
more or less is not counted here, nor is its evidence from states or from the same document.

Legend: M tokens a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retro_lab.memory.context_reader import ContextReader
from retro_lab.memory.occurrences import occurrences

from ...measure.gain import MATCHING_RUN
from ...measure.memory_scoring import DocumentTexts
from ...measure.metrics import MemoryShares
from .inspect_data import LeanedDocument
from .inspect_text import ShownText

MOST = 3
"""Documents beside a chunk."""
_AROUND = 12  # tokens shown before and after what matches


@dataclass
class _Leaning:
    """What the tokens of a chunk have in common with one document.

    Attributes:
        share: sum of the memory's share over the tokens.
        places: of these tokens in the chunk.
        match: tokens of their longest context.
        place: flat place, in the document, of the token after that context.
    """

    share: float = 0.0
    places: list[int] = field(default_factory=list)
    match: int = 0
    place: int = 0

    def add(self, place: int, share: float, match: int, there: int) -> None:
        """Adds a token of the chunk that stands there in the document after such a context."""
        self.share += share
        self.places.append(place)
        if match > self.match:
            self.match, self.place = match, there


@dataclass(frozen=True)
class LeanedDocuments:
    """The documents that the tokens of a chunk lean on most.

    Attributes:
        reader: of the database's contexts; None for a memory that reads none.
        texts: the scored documents, as the memory reads them.
        text: of the database.
    """

    reader: ContextReader | None
    texts: DocumentTexts
    text: ShownText

    def of(
        self, chunk: int, memory: MemoryShares | None
    ) -> tuple[list[LeanedDocument], NDArray[np.bool_]]:
        shared = np.zeros(self.text.chunks.chunk_size, np.bool_)
        if self.reader is None or memory is None:
            return [], shared
        found = self._leanings(self.reader, chunk, memory)
        best = sorted(found, key=lambda d: (-found[d].share, -found[d].match, d))[:MOST]
        for document in best:
            shared[found[document].places] = True
        return [self._shown(document, found[document]) for document in best], shared

    def _leanings(
        self, reader: ContextReader, chunk: int, memory: MemoryShares
    ) -> dict[int, _Leaning]:
        """By document, what the tokens to which the memory gave something have in common with it.

        Contexts shorter than `MATCHING_RUN` are left out.
        """
        chunks, found = self.text.chunks, {}
        text = self.texts.of(int(chunks.document[chunk]))
        start = int(chunks.index[chunk]) * chunks.chunk_size
        for place in np.flatnonzero(memory.share > 0).tolist():
            match, places = occurrences(reader, text, start + place)
            if match < MATCHING_RUN:
                continue
            document = np.asarray(chunks.document)[places // chunks.chunk_size]
            for number, first in zip(*np.unique(document, return_index=True), strict=True):
                leaning = found.setdefault(int(number), _Leaning())
                leaning.add(place, float(memory.share[place]), match, int(places[first]))
        return found

    def _shown(self, document: int, leaning: _Leaning) -> LeanedDocument:
        chunks = self.text.chunks
        first, last = (
            int(c) * chunks.chunk_size for c in chunks.first_chunk[document : document + 2]
        )
        matched = range(leaning.place - leaning.match, leaning.place + 1)
        around = range(max(first, matched.start - _AROUND), min(last, matched.stop + _AROUND))
        return LeanedDocument(
            self.text.corpus.ids[document],
            leaning.share,
            len(leaning.places),
            leaning.match,
            list(self.text.excerpt(around, matched)),
        )

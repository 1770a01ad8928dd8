"""Contract: beside a chunk stand the three documents whose tokens it leans on most, counted from
the documents themselves, each with its longest match marked in its own text.
"""

from __future__ import annotations

import string

import numpy as np
import pytest
from small_database import BOUNDARY, SmallDatabase, random_documents, whole_reader

from retro_lab.evaluation.measure.metrics import MemoryShares
from retro_lab.evaluation.report.pages.inspect_memory import MOST, LeanedDocuments
from retro_lab.evaluation.report.pages.inspect_text import ShownText
from retro_lab.memory.evidence import Text
from retro_lab.memory.sorted_contexts import LONGEST

SIZE, AROUND = 16, 12


class Letters:
    """The raw text of a database: a letter a token but the first of each document."""

    def __init__(self, chunks: SmallDatabase) -> None:
        self.texts = [letters(tokens[1:]) for tokens in chunks.full_texts]
        self.ids = [f"document {number}" for number in range(len(self.texts))]

    def raw_span(self, start: int, stop: int) -> bytes:
        return "".join(self.texts).encode()[start:stop]


class Itself:
    """Texts that leave their own document out."""

    def __init__(self, chunks: SmallDatabase) -> None:
        self.chunks = chunks

    def of(self, document: int) -> Text:
        return Text(np.array(self.chunks.full_texts[document], np.int32), np.array([document]))


def letters(tokens: list[int]) -> str:
    return "".join(string.ascii_lowercase[token] for token in tokens)


def longest_matches(text: list[int], at: int, other: list[int]) -> int:
    """Tokens before this place that also stand before some place of its token in another text."""
    found = 0
    for place in range(1, len(other)):
        if other[place] != text[at]:
            continue
        match = 0
        while match < min(at, place, LONGEST) and text[at - match - 1] == other[place - match - 1]:
            match += 1
        found = max(found, match)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_they_are_those_of_the_definition(seed: int) -> None:
    documents = [[t for t in d if t != BOUNDARY] for d in random_documents(seed, count=9)]
    chunks = SmallDatabase(documents, SIZE)
    chunks.text_start = np.cumsum([0, *chunks.token_bytes.sum(1)])[:-1].astype(np.int64)
    shown = ShownText(chunks, Letters(chunks))  # pyright: ignore[reportArgumentType]
    texts = Itself(chunks)
    found = LeanedDocuments(whole_reader(chunks), texts, shown)  # pyright: ignore
    rng, several = np.random.default_rng(seed), 0
    for chunk in range(len(chunks.tokens)):
        document, start = int(chunks.document[chunk]), int(chunks.index[chunk]) * SIZE
        share = np.where(chunks.token_bytes[chunk] > 0, rng.random(SIZE), 0).astype(np.float32)
        share[rng.random(SIZE) < 0.2] = 0
        text = chunks.full_texts[document]
        sums: dict[int, list[tuple[int, float, int]]] = {}
        for place in np.flatnonzero(share).tolist():
            every = {
                number: longest_matches(text, start + place, other)
                for number, other in enumerate(chunks.full_texts)
                if number != document
            }
            longest = max(every.values())
            for number in (n for n, match in every.items() if match == longest >= 4):
                sums.setdefault(number, []).append((place, float(share[place]), longest))
        order = sorted(sums, key=lambda n: -sum(share for _, share, _ in sums[n]))
        expert = np.zeros(SIZE, np.int16)
        beside, shared = found.of(chunk, MemoryShares(share, expert, ("suffix:1",)))
        assert [each.document for each in beside] == [f"document {n}" for n in order[:MOST]]
        places = {place for number in order[:MOST] for place, _, _ in sums[number]}
        assert np.flatnonzero(shared).tolist() == sorted(places)
        for number, each in zip(order, beside, strict=False):
            assert each.tokens == len(sums[number])
            assert each.share == pytest.approx(sum(share for _, share, _ in sums[number]))
            assert each.match == max(match for *_, match in sums[number])
            ends = [start + place for place, _, match in sums[number] if match == each.match]
            marked = "".join(span.text for span in each.spans if span.shared)
            assert marked in [letters(text[max(1, e - each.match) : e + 1]) for e in ends]
            assert "".join(span.text for span in each.spans) in shown.corpus.texts[number]
            assert len(each.spans) <= each.match + 1 + 2 * AROUND
        several += len(order) > MOST
    assert several

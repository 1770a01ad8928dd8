"""A database with queries about it, and their answers from looking at every occurrence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from small_database import (
    BOUNDARY,
    Occurrence,
    SmallDatabase,
    context_at,
    cut,
    in_order,
    padded,
    random_documents,
)

from retro_lab.memory.context_reader import MOST, ContextCounts, ContextReader
from retro_lab.memory.sorted_contexts import LONGEST, Segment

EVERY = (*range(1, LONGEST + 1),)


def run_of(left: Sequence[int], right: Sequence[int]) -> int:
    """How many first items are equal."""
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        same += 1
    return same


Counted = Callable[[Occurrence, int], bool]


def matches(
    segments: Sequence[Sequence[Occurrence]], context: tuple[int, ...], order: int, most: int
) -> Iterator[tuple[Occurrence, int]]:
    """The occurrences of a context's last `order` tokens, sampled, and how long each match is."""
    every = [(each, run_of(each.context, context)) for part in segments for each in part]
    every = [(each, run) for each, run in every if run >= order]
    yield from every[:: max(1, math.ceil(len(every) / most))]


def histograms(
    segments: Sequence[Sequence[Occurrence]],
    context: tuple[int, ...],
    weights: NDArray[np.float32],
    vocab_size: int,
    orders: Sequence[int],
    counted: Counted = lambda each, run: True,
    most: int = 10**9,
) -> tuple[NDArray[np.float64], list[int]]:
    """[O, V, W], weight of each token that followed, and the number of documents of each order."""
    found, documents = np.zeros((len(orders), vocab_size, weights.shape[1])), []
    for at, order in enumerate(orders):
        met = set()
        for each, run in matches(segments, context, order, most):
            if counted(each, run) and weights[each.document, 0] > 0:
                found[at, each.token] += weights[each.document]
                met.add(each.document)
        documents.append(len(met))
    return found, documents


def summed(found: NDArray[np.float64], documents: Sequence[int], target: int) -> list[NDArray]:
    """The fields of `ContextCounts` of one query."""
    total, best = found.sum(1), found.max(1)
    favourite = np.where(total > 0, found.argmax(1), -1)
    hit = found[:, target] if target >= 0 else np.zeros_like(total)
    types = (found[:, :, 0] > 0).sum(1)
    return [total, hit, best, favourite, types, np.array(documents)]


def assert_equal(found: ContextCounts, expected: Sequence[Sequence[NDArray]]) -> None:
    """The counts of all queries are those of `summed`."""
    for name, ours, theirs in zip(found._fields, found, zip(*expected, strict=True), strict=True):
        assert np.array_equal(ours, np.array(theirs)), name


@dataclass
class World:
    """A database, its segments and their entries one by one, and queries about it."""

    chunks: SmallDatabase
    segments: list[Segment]
    entries: list[list[Occurrence]]
    contexts: list[tuple[int, ...]]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]
    limits: NDArray[np.int64]

    def counted(self, row: int, limited: bool, max_run: int | None) -> Callable:
        """Which occurrences count for a query."""
        limit = self.limits[row] if limited else 10**9
        longest = LONGEST if max_run is None else max_run
        return lambda each, run: each.place < limit and run <= longest

    def histogram(
        self,
        row: int,
        orders: tuple[int, ...] = EVERY,
        most: int = MOST,
        max_run: int | None = None,
        limited: bool = False,
    ) -> tuple[NDArray[np.float64], list[int]]:
        counted = self.counted(row, limited, max_run)
        given_ = self.entries, self.contexts[row], self.weights, self.chunks.vocab_size
        return histograms(*given_, orders, counted, most)

    def expected(self, **settings) -> list[list[NDArray]]:
        rows = range(len(self.contexts))
        return [summed(*self.histogram(row, **settings), int(self.targets[row])) for row in rows]

    def reader(self, orders: tuple[int, ...] = EVERY, **settings) -> ContextReader:
        return ContextReader(self.chunks, self.segments, orders=orders, **settings)


def world(
    seed: int, letters: int = 2, queries: int = 12, documents: list | None = None, **settings
) -> World:
    """A few segments; contexts of the text itself, of it with a change, and of nowhere."""
    rng = np.random.default_rng(seed)
    documents = random_documents(seed, letters=letters) if documents is None else documents
    chunks = SmallDatabase(documents, **settings)
    segments, owned = cut(chunks, rng.integers(1, chunks.num_documents, 2).tolist())
    contexts, targets = [], []
    scale = chunks.boundary_id // BOUNDARY
    for number in range(queries):
        text = chunks.full_texts[int(rng.integers(chunks.num_documents))]
        place = int(rng.integers(1, len(text) + 1))
        context = list(context_at(text, place))
        if number % 3 == 0:
            context[int(rng.integers(len(context)))] = scale * int(rng.integers(letters))
        contexts.append(tuple(context))
        targets.append(text[place] if place < len(text) else -1)
    size = chunks.num_documents, 3
    weights = rng.choice(np.array([0, 0.25, 0.5, 1, 2], np.float32), size, p=[0.3, *[0.175] * 4])
    limits = rng.integers(0, chunks.tokens.size + 1, queries)
    entries = [in_order(chunks, documents) for documents in owned]
    return World(chunks, segments, entries, contexts, np.array(targets, np.int32), weights, limits)


def read(one: World, *, limited: bool = False, threads: int = 1, **settings):
    limits = one.limits if limited else None
    given_ = padded(one.contexts), one.targets, one.weights
    return one.reader(**settings).counts(*given_, limits=limits, threads=threads)

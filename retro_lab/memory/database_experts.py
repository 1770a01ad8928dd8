"""Experts that count what followed the last tokens, anywhere in a database.

`suffix` weighs all documents alike. `topic` weighs each by how like it the text before this chunk
is: exp(kappa (s - max s)), with s the cosine of tf-idf vectors.

Legend: T tokens, E experts, O orders, W weightings, D documents of the store, M tokens a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .context_evidence import shares, statistics
from .context_reader import ContextCounts, ContextReader
from .evidence import Evidence, Text, contexts_of
from .sorted_contexts import LONGEST
from .topics import GrowingText, Topics

SHARPNESS = (12.0, 40.0)
"""kappa of each weighting by topic."""
TOPIC_ORDERS = (1, 2, 3, 4, 6, 8)
STATISTICS = ("count", "types", "share", "documents")
_KEPT = 2  # texts that may go on


class _Grown(NamedTuple):
    """The beginning of a text, as far as tokens [1, stop) of it are read."""

    text: Text
    stop: int
    grown: GrowingText

    def leads_to(self, text: Text, place: int) -> bool:
        """Whether it is the beginning of the text before a place."""
        if self.stop > place:
            return False
        known = self.text is text
        return known or np.array_equal(self.text.read[: self.stop], text.read[: self.stop])


class DatabaseExperts:
    """The experts `suffix`, and with topics also `topic`, over one database.

    Args:
        reader: of the database's sorted contexts.
        topics: None for `suffix` alone.
        threads: processors that count.
    """

    needs_states = False

    def __init__(
        self, reader: ContextReader, topics: Topics | None = None, threads: int = 1
    ) -> None:
        self.reader, self.topics, self.threads = reader, topics, threads
        self._grown: list[_Grown] = []
        orders = reader.orders
        self._by_topic = [at for at, order in enumerate(orders) if order in TOPIC_ORDERS]
        sharp = () if topics is None else SHARPNESS
        topical = [f"topic:{kappa:g}_{orders[at]}" for kappa in sharp for at in self._by_topic]
        self.experts = (*(f"suffix:{order}" for order in orders), *topical)
        self.features = (
            *(f"suffix:{what}_{order}" for what in STATISTICS for order in orders),
            *(f"{name}_share" for name in topical),
            *(("topic:likest",) if sharp else ()),
            "suffix:match",
        )

    def read(
        self, text: Text, start: int, stop: int, states: NDArray[np.float32] | None = None
    ) -> Evidence:
        parts = []
        for first, last, weights, likest in self._weights(text, start, stop):
            contexts = contexts_of(text.read, first, last, LONGEST)
            targets = text.tokens[first:last].astype(np.int32)
            counts = self.reader.counts(contexts, targets, weights, threads=self.threads)
            parts.append(self._evidence(counts, likest))
        return Evidence.stacked(parts)

    def mixture(
        self, text: Text, share: NDArray[np.float32], states: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        end = len(text.tokens)
        for first, last, weights, _ in self._weights(text, end, end + 1):
            contexts = contexts_of(text.read, first, last, LONGEST)
            orders = len(self.reader.orders)
            spread = np.zeros((1, orders, weights.shape[1]), np.float32)
            spread[0, :, 0] = share[:orders]
            topical = share[orders:].reshape(-1, len(self._by_topic))
            spread[0, self._by_topic, 1:] = topical.T
            return self.reader.mixture(contexts, weights, spread)[0]
        raise AssertionError("one token follows a text")

    def _weights(
        self, text: Text, start: int, stop: int
    ) -> Iterator[tuple[int, int, NDArray[np.float32], float]]:
        """Ranges of tokens [first, last), the weights [D, W] that they read with, and the cosine of
        the likest document; one range a chunk with topics, else one for all.
        """
        documents = self.reader.chunks.num_documents
        allowed = np.ones(documents, np.float32)
        allowed[text.excluded] = 0
        if self.topics is None:
            yield start, stop, allowed[:, None], 0.0
            return
        size = self.reader.chunks.chunk_size
        for first in range(start // size * size, stop, size):
            cosines = self._text_before(text, first).cosines()
            likest = float(np.max(cosines, where=allowed > 0, initial=0.0))
            columns = [np.exp(kappa * (cosines - likest)) for kappa in SHARPNESS]
            weights = np.stack([np.ones(documents), *columns], axis=1) * allowed[:, None]
            yield max(start, first), min(stop, first + size), weights.astype(np.float32), likest

    def _text_before(self, text: Text, place: int) -> GrowingText:
        """The text before a place; a text that begins like one of the last two goes on from there.

        A text and its control are read in turn.
        """
        assert self.topics is not None
        known = next((each for each in self._grown if each.leads_to(text, place)), None)
        if known is None:
            grown = GrowingText(self.topics, self.reader.chunks.num_documents)
            known = _Grown(text, 1, grown)
        known.grown.read(text.read[known.stop : place])
        latest = _Grown(text, max(known.stop, place), known.grown)
        others = [each for each in self._grown if each.grown is not known.grown]
        self._grown = [latest, *others][:_KEPT]
        return known.grown

    def _evidence(self, counts: ContextCounts, likest: float) -> Evidence:
        """The experts' answers from the counts of one range."""
        rows, at = len(counts.total), self._by_topic

        def experts(array: NDArray) -> NDArray:
            """[T, E] of [T, O, W]."""
            topical = array[:, at, 1:].swapaxes(1, 2).reshape(rows, -1)
            return np.concatenate([array[:, :, 0], topical], axis=1)

        share = shares(experts(counts.best), experts(counts.total))
        total, of_orders, match = statistics(counts, self.reader.orders)
        columns = [total, np.log1p(counts.types), of_orders, np.log1p(counts.documents)]
        columns.append(share[:, len(self.reader.orders) :])
        if self.topics is not None:
            columns.append(np.full((rows, 1), likest))
        columns.append(match)
        return Evidence(
            shares(experts(counts.hit), experts(counts.total)),
            experts(counts.total) > 0,
            experts(counts.favourite).astype(np.int32),
            np.concatenate(columns, axis=1).astype(np.float32),
        )

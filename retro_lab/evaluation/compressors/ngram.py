"""A byte n-gram model that adapts to each document: orders 0 to 7, interpolated (as in PPM).

The probability of a byte in a context of n bytes is its discounted count, plus the discounted mass
times the probability in the context of n - 1 bytes. Contexts never seen are skipped (interpolated
absolute discounting, PPM without exclusion: Cleary and Witten 1984; Bell, Cleary and Witten, "Text
Compression", 1990). Counts come from the training split and, weighted by `own_weight`, from the
earlier part of the same document. Each evaluated document is scored independently.

Shapes: E bytes of text.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import NgramConfig
from retro_lab.store import track
from retro_lab.text.corpus import Corpus

from ..measure.normalisation import Agreement, agreement
from .outcome import Outcome, Tuning, lowest
from .subset import Subset

ALPHABET = 256
PLACES = 4
"""Places at which every byte is tried, to see whether probabilities sum to one."""
_LONGEST_TRIED = 512  # bytes of a document before a place


class Text(NamedTuple):
    """Concatenated documents.

    Attributes:
        data: uint8 [E] bytes.
        document: int64 [E] number of each byte's document.
        offset: int64 [E] position of each byte within its document.
    """

    data: NDArray[np.uint8]
    document: NDArray[np.int64]
    offset: NDArray[np.int64]

    @classmethod
    def of(cls, documents: Sequence[bytes]) -> Text:
        """Concatenates documents in order."""
        lengths = np.array([len(document) for document in documents], np.int64)
        document = np.repeat(np.arange(len(lengths)), lengths)
        before = np.cumsum(lengths) - lengths
        offset = np.arange(len(document)) - before[document]
        return cls(np.frombuffer(b"".join(documents), np.uint8), document, offset)


class Counts(NamedTuple):
    """Counts for each byte and its context of one order, up to but excluding the byte itself.

    Attributes:
        valid: bool [E], whether the document has enough bytes before this one for the context.
        byte: [E] occurrences of the byte in this context, in the training text.
        all: [E] occurrences of the context in the training text.
        own_byte: [E] as `byte`, in the document's earlier bytes.
        own_all: [E] as `all`, in the document's earlier bytes.
        different: [E] distinct bytes seen in this context, in both.
    """

    valid: NDArray[np.bool_]
    byte: NDArray[np.int64]
    all: NDArray[np.int64]
    own_byte: NDArray[np.int64]
    own_all: NDArray[np.int64]
    different: NDArray[np.int64]


def counts(training: Text, text: Text, order: int) -> Counts:
    """Counts for every byte of `text` in its context of `order` bytes, at most 7."""
    known, seen = np.unique(_keys(training, order)[training.offset >= order], return_counts=True)
    contexts, first = np.unique(known >> np.uint64(8), return_index=True)
    totals = np.add.reduceat(seen, first) if len(seen) else seen
    kinds = np.diff(np.append(first, len(known)))

    keys, valid = _keys(text, order), text.offset >= order
    byte = _look_up(known, seen, keys)
    above = keys >> np.uint64(8)
    # Bytes without a full context get document numbers of their own, so no count includes them.
    own = np.where(valid, text.document, -1 - text.document)
    own_byte = _earlier(own, keys)
    new = (byte == 0) & (own_byte == 0)
    return Counts(
        valid,
        byte,
        _look_up(contexts, totals, above),
        own_byte,
        _earlier(own, above),
        _look_up(contexts, kinds, above) + _earlier(own, above, new),
    )


def byte_nats(
    by_order: Sequence[Counts], discount: float, own_weight: int
) -> Iterator[NDArray[np.float64]]:
    """Yields the nats of each byte, [E], under the model of order 0, then 1, and so on."""
    probability = np.full(len(by_order[0].valid), 1 / ALPHABET)
    for found in by_order:
        seen = found.byte + own_weight * found.own_byte
        total = found.all + own_weight * found.own_all
        spread = discount * found.different * probability
        longer = (np.maximum(seen - discount, 0) + spread) / np.maximum(total, 1)
        probability = np.where(found.valid & (total > 0), longer, probability)
        yield -np.log(probability)


def _keys(text: Text, order: int) -> NDArray[np.uint64]:
    """[E] each byte and the `order` bytes before it, packed; arbitrary where there are fewer."""
    keys = np.zeros(len(text.data), np.uint64)
    for back in range(order, -1, -1):
        shifted = np.zeros(len(text.data), np.uint64)
        shifted[back:] = text.data[: max(len(text.data) - back, 0)]
        keys = (keys << np.uint64(8)) | shifted
    return keys


def _look_up(
    known: NDArray[np.uint64], values: NDArray[np.int64], keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """[E] the value of each key, 0 for unknown keys."""
    if not len(known):
        return np.zeros(len(keys), np.int64)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], 0)


def _earlier(
    document: NDArray[np.int64], keys: NDArray[np.uint64], counted: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """[E] number of earlier bytes of the document with the same key, only those in `counted`."""
    order = np.lexsort((keys, document))  # stable: positions stay in order
    ones = np.ones(len(keys), np.int64) if counted is None else counted[order].astype(np.int64)
    before = np.cumsum(ones) - ones
    begins = np.ones(len(keys), bool)
    begins[1:] = (np.diff(document[order]) != 0) | (np.diff(keys[order]) != 0)
    start = np.maximum.accumulate(np.where(begins, np.arange(len(keys)), 0))
    earlier = np.empty(len(keys), np.int64)
    earlier[order] = before - before[start]
    return earlier


def _documents(corpus: Corpus, subset: Subset) -> list[bytes]:
    return [corpus.raw(document) for document in subset.documents.tolist()]


def _text(corpus: Corpus, subset: Subset) -> Text:
    return Text.of(_documents(corpus, subset))


def _all_counts(training: Text, text: Text, order: int, what: str) -> list[Counts]:
    with track(order + 1, what, "orders") as advance:
        found = []
        for length in range(order + 1):
            found.append(counts(training, text, length))
            advance(1)
    return found


def tune(corpus: Corpus, training: Subset, subset: Subset, config: NgramConfig) -> Tuning:
    """Grid search for the order, discount and own_weight with the fewest bits per byte."""
    start = time.perf_counter()
    text = _text(corpus, subset)
    found = _all_counts(_text(corpus, training), text, max(config.orders), "tuning n-grams")
    tried = []
    for discount, own_weight in itertools.product(config.discounts, config.own_weights):
        for order, nats in enumerate(byte_nats(found, discount, own_weight)):
            if order in config.orders:
                setting = {"order": order, "discount": discount, "own_weight": own_weight}
                tried.append((setting, float(nats.sum() / math.log(2) / len(text.data))))
    return lowest(tried, start)


def score(corpus: Corpus, training: Subset, subset: Subset, tuning: Tuning) -> Outcome:
    """Scores every byte of `subset` with the tuned n-gram, summed by chunk."""
    start = time.perf_counter()
    order = tuning.chosen["order"]
    before, documents = _text(corpus, training), _documents(corpus, subset)
    tried = _tried(documents)
    found = _all_counts(before, Text.of([*documents, *tried.texts]), order, "scoring n-grams")
    weights = tuning.chosen["discount"], tuning.chosen["own_weight"]
    *_, nats = byte_nats(found, *weights)
    nats, swept = np.split(nats, [sum(map(len, documents))])
    row = np.repeat(np.arange(len(subset.rows)), subset.bytes)
    return Outcome.by_chunk(
        subset,
        np.bincount(row, nats, len(subset.rows)).astype(np.float64),
        tuning=tuning,
        seconds=round(time.perf_counter() - start, 1),
        facts={
            "training_bytes": len(before.data),
            "distribution": tried.compared(nats, swept)._asdict(),
        },
    )


class _Tried(NamedTuple):
    """Texts that end with each byte in turn, at a sample of places.

    Attributes:
        texts: `ALPHABET` texts a place, that differ in their last byte.
        numbers: int64 [Q], of each place's own byte among all scored bytes.
        own: int64 [Q], this byte.
    """

    texts: list[bytes]
    numbers: NDArray[np.int64]
    own: NDArray[np.int64]

    def compared(self, nats: NDArray[np.float64], swept: NDArray[np.float64]) -> Agreement:
        """Whether the texts' last bytes have a distribution, which gives the counted scores.

        Args:
            nats: of all scored bytes.
            swept: of all bytes of `texts`.
        """
        last = np.cumsum([len(text) for text in self.texts]) - 1
        return agreement(-swept[last].reshape(-1, ALPHABET), self.own, nats[self.numbers])


def _tried(documents: Sequence[bytes]) -> _Tried:
    rng, texts, numbers, own = np.random.default_rng(0), [], [], []
    first = np.cumsum([0, *map(len, documents)])
    for number in rng.choice(len(documents), min(PLACES, len(documents)), replace=False).tolist():
        document = documents[number]
        place = int(rng.integers(min(len(document), _LONGEST_TRIED)))
        texts += [document[:place] + bytes([byte]) for byte in range(ALPHABET)]
        numbers.append(int(first[number]) + place)
        own.append(document[place])
    return _Tried(texts, np.array(numbers, np.int64), np.array(own, np.int64))

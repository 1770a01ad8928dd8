"""A PPM-like model: byte n-grams of all orders up to 7, interpolated, learning as it reads.

A byte's probability in its longest context is its discounted count there, plus what the discount
took off times the probability in the next shorter context; contexts never seen are skipped
(interpolated absolute discounting, PPM without exclusion: Cleary and Witten 1984; Bell, Cleary and
Witten, "Text Compression", 1990). Counts come from the training split and, `own_weight` times, from
the part of the document that was read before, so that the model adapts as a compressor does.
Nothing is learnt from one evaluated document for another.

Shapes: T bytes of training text, E bytes of evaluated text.
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

from .outcome import Outcome, Tuning, lowest
from .subset import Subset

ALPHABET = 256


class Text(NamedTuple):
    """Documents end to end.

    Attributes:
        data: uint8 [E].
        document: int64 [E], number of each byte's document within the text.
        offset: int64 [E], place within the document.
    """

    data: NDArray[np.uint8]
    document: NDArray[np.int64]
    offset: NDArray[np.int64]

    @classmethod
    def of(cls, documents: Sequence[bytes]) -> Text:
        """The documents in order."""
        lengths = np.array([len(document) for document in documents], np.int64)
        document = np.repeat(np.arange(len(lengths)), lengths)
        before = np.cumsum(lengths) - lengths
        offset = np.arange(len(document)) - before[document]
        return cls(np.frombuffer(b"".join(documents), np.uint8), document, offset)


class Counts(NamedTuple):
    """What is known of each byte in its context of one order, before it is read.

    Attributes:
        valid: bool [E], whether the document holds so long a context.
        byte: [E] how often training text has the byte in this context.
        all: [E] how often it has the context.
        own_byte: [E], own_all: [E], the same for the document so far.
        different: [E] different bytes seen in the context by now.
    """

    valid: NDArray[np.bool_]
    byte: NDArray[np.int64]
    all: NDArray[np.int64]
    own_byte: NDArray[np.int64]
    own_all: NDArray[np.int64]
    different: NDArray[np.int64]


def counts(training: Text, text: Text, order: int) -> Counts:
    """Counts for contexts of `order` bytes, at most 7."""
    known, seen = np.unique(_keys(training, order)[training.offset >= order], return_counts=True)
    contexts, first = np.unique(known >> np.uint64(8), return_index=True)
    totals = np.add.reduceat(seen, first) if len(seen) else seen
    kinds = np.diff(np.append(first, len(known)))

    keys, valid = _keys(text, order), text.offset >= order
    byte = _look_up(known, seen, keys)
    above = keys >> np.uint64(8)
    # A document's short beginnings get keys of their own: they are no context of this order.
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
    """Nats of each byte [E], for the model of order 0, then 1, and so on."""
    probability = np.full(len(by_order[0].valid), 1 / ALPHABET)
    for found in by_order:
        seen = found.byte + own_weight * found.own_byte
        total = found.all + own_weight * found.own_all
        spread = discount * found.different * probability
        longer = (np.maximum(seen - discount, 0) + spread) / np.maximum(total, 1)
        probability = np.where(found.valid & (total > 0), longer, probability)
        yield -np.log(probability)


def _keys(text: Text, order: int) -> NDArray[np.uint64]:
    """[E] each byte with the `order` before it in 8 * (order + 1) bits; junk where too few are."""
    keys = np.zeros(len(text.data), np.uint64)
    for back in range(order, -1, -1):
        shifted = np.zeros(len(text.data), np.uint64)
        shifted[back:] = text.data[: max(len(text.data) - back, 0)]
        keys = (keys << np.uint64(8)) | shifted
    return keys


def _look_up(
    known: NDArray[np.uint64], values: NDArray[np.int64], keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """[E] the value of each key, 0 for those that are not known."""
    if not len(known):
        return np.zeros(len(keys), np.int64)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], 0)


def _earlier(
    document: NDArray[np.int64], keys: NDArray[np.uint64], counted: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """[E] how many earlier places of the document have the same key (and are counted)."""
    order = np.lexsort((keys, document))  # stable: places stay in order
    ones = np.ones(len(keys), np.int64) if counted is None else counted[order].astype(np.int64)
    before = np.cumsum(ones) - ones
    begins = np.ones(len(keys), bool)
    begins[1:] = (np.diff(document[order]) != 0) | (np.diff(keys[order]) != 0)
    start = np.maximum.accumulate(np.where(begins, np.arange(len(keys)), 0))
    earlier = np.empty(len(keys), np.int64)
    earlier[order] = before - before[start]
    return earlier


def _text(corpus: Corpus, subset: Subset) -> Text:
    return Text.of([corpus.raw(document) for document in subset.documents.tolist()])


def _all_counts(training: Text, text: Text, order: int, what: str) -> list[Counts]:
    with track(order + 1, what, "orders") as advance:
        found = []
        for length in range(order + 1):
            found.append(counts(training, text, length))
            advance(1)
    return found


def tune(corpus: Corpus, training: Subset, subset: Subset, config: NgramConfig) -> Tuning:
    """The best order, discount and weight of the document's own bytes, on `subset`."""
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
    """The chosen n-gram on every byte of `subset`, added up by chunk."""
    start = time.perf_counter()
    order = tuning.chosen["order"]
    before = _text(corpus, training)
    found = _all_counts(before, _text(corpus, subset), order, "scoring n-grams")
    weights = tuning.chosen["discount"], tuning.chosen["own_weight"]
    *_, nats = byte_nats(found, *weights)
    row = np.repeat(np.arange(len(subset.rows)), subset.bytes)
    return Outcome.by_chunk(
        subset,
        np.bincount(row, nats, len(subset.rows)).astype(np.float64),
        tuning=tuning,
        seconds=round(time.perf_counter() - start, 1),
        facts={"training_bytes": len(before.data)},
    )

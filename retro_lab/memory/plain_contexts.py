"""What a `ContextReader` counts, in NumPy: the specification of `kernels/contexts.c`.

Slow; used in tests, and where there is no C compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .sorted_contexts import LONGEST, Segment, StoredTokens, intervals_of


class Counted(NamedTuple):
    """Which occurrences are counted; as in `ContextReader`, `limit` as in its `counts`."""

    orders: Sequence[int]
    most: int
    max_run: int | None
    limit: int | None


def plain_counts(
    chunks: StoredTokens,
    segments: Sequence[Segment],
    context: NDArray[np.int32],
    weights: NDArray[np.float32],
    counted: Counted,
) -> list[tuple[NDArray[np.float64], int]]:
    """For each order, [V, W], the weight of each token under each weighting, and the number of
    documents.

    Args:
        context: [LONGEST], the last token first, -1 beyond the document's start.
        weights: [D, W].
    """
    found = []
    intervals = [intervals_of(chunks, segment, context) for segment in segments]
    most, max_run = counted.most, counted.max_run
    ignored = max_run + 1 if max_run and max_run < LONGEST else LONGEST + 1
    for n in counted.orders:
        parts = [each[n] for each in intervals] if n < ignored else []
        step, skip = max(1, -(-sum(map(len, parts)) // most)), 0
        counts, documents = np.zeros((chunks.vocab_size, weights.shape[1])), set()
        for segment, each, part in zip(segments, intervals, parts, strict=False):
            entries = np.arange(part.start + skip, part.stop, step)
            skip = part.start + skip + len(entries) * step - part.stop
            beyond = each[ignored] if ignored <= LONGEST else range(0)
            entries = entries[(entries < beyond.start) | (entries >= beyond.stop)]
            place = segment.base + segment.order[entries].astype(np.int64)
            document = np.asarray(chunks.document)[place // chunks.chunk_size]
            kept = weights[document, 0] > 0
            if counted.limit is not None:
                kept &= place < counted.limit
            np.add.at(counts, segment.following[entries[kept]], weights[document[kept]])
            documents |= set(document[kept].tolist())
        found.append((counts, len(documents)))
    return found

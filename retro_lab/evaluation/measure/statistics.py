"""Paired bootstrap over documents: how sure a difference of two bits-per-byte figures is.

Tokens of one document are not independent, documents nearly are, so documents are resampled; both
conditions are resampled together, so that what they share cancels. Intervals are percentile
intervals (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13), with percentiles
further out the fewer documents there are, since plain ones are then too narrow (Hesterberg, What
Teachers Should Know About the Bootstrap, 2015: the expanded percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

FEWEST = 5  # documents; intervals of fewer would hold the truth far less often than they say
BLOCK = 4_000_000  # draws held at once: bounds memory, and fixes the order of random numbers


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        samples: resamples of the documents.
        confidence: coverage of an interval, 0.95 say.
        seed: of the resamples; the same seed gives the same interval.
        fewest: documents below which there is no interval; of the class, so no record has it.
    """

    samples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    fewest: ClassVar[int] = FEWEST


def resampled_sums(
    sums: NDArray[np.float64], bootstrap: Bootstrap, *, at_once: int = BLOCK
) -> NDArray[np.float64]:
    """Column sums of documents drawn with replacement.

    Args:
        sums: [documents, columns], a document's nats or bytes.
        at_once: draws a pass.

    Returns:
        [samples, columns]; every column of a row comes from the same drawn documents.
    """
    documents = sums.shape[0]
    rng = np.random.default_rng(bootstrap.seed)
    size = max(1, at_once // documents)
    blocks = []
    for start in range(0, bootstrap.samples, size):
        rows = min(size, bootstrap.samples - start)
        draws = rng.integers(documents, size=(rows, documents))
        draws += documents * np.arange(rows)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rows * documents)
        blocks.append(counts.reshape(rows, documents).astype(np.float64) @ sums)
    return np.concatenate(blocks)


def pooled_interval(
    nats: NDArray[np.float64], num_bytes: NDArray, bootstrap: Bootstrap
) -> tuple[float, float] | None:
    """Interval of a difference of bits per byte, averaged over runs that scored the same text.

    Documents and runs are crossed, not nested: a resample draws documents once for all runs, and
    runs with replacement. Few runs say little about their spread, whatever the resampling; with one
    run the interval speaks of documents alone.

    Args:
        nats: [documents, runs], nats of one condition minus those of another.
        num_bytes: [documents] UTF-8 bytes.

    Returns:
        (low, high); None with too few documents, and where no resample has a byte.
    """
    documents, runs = nats.shape
    if documents < bootstrap.fewest:
        return None
    resampled = resampled_sums(np.column_stack([nats, num_bytes.astype(np.float64)]), bootstrap)
    drawn = np.random.default_rng([bootstrap.seed, runs]).integers(
        runs, size=(len(resampled), runs)
    )
    bits = resampled[:, -1] * math.log(2)
    kept = bits > 0
    deltas = np.take_along_axis(resampled[:, :-1], drawn, axis=1)[kept].mean(axis=1) / bits[kept]
    return _ends(deltas, documents, bootstrap)


def bits_per_byte_intervals(
    nats: Mapping[str, NDArray],
    num_bytes: NDArray,
    pairs: list[tuple[str, str]],
    bootstrap: Bootstrap,
) -> dict[tuple[str, str], tuple[float, float] | None]:
    """Interval of bpb_a - bpb_b for each pair, all from the same resamples.

    Args:
        nats: by condition, [documents] sums.
        num_bytes: [documents] UTF-8 bytes.
        pairs: (a, b) names of conditions.

    Returns:
        by pair (low, high); None with too few documents, and where no resample has a byte.
    """
    if len(num_bytes) < bootstrap.fewest or not pairs:
        return dict.fromkeys(pairs)
    conditions = sorted({name for pair in pairs for name in pair})
    columns = np.stack([nats[name] for name in conditions] + [num_bytes.astype(np.float64)], 1)
    resampled = resampled_sums(columns, bootstrap)
    bits = resampled[:, -1] * math.log(2)
    kept = bits > 0  # a resample of documents without a byte has no bits per byte
    intervals: dict[tuple[str, str], tuple[float, float] | None] = {}
    for a, b in pairs:
        # Differences first: equal nats give exactly zero, in every resample.
        difference = resampled[:, conditions.index(a)] - resampled[:, conditions.index(b)]
        intervals[a, b] = _ends(difference[kept] / bits[kept], len(num_bytes), bootstrap)
    return intervals


def chunk_intervals(
    document: NDArray,
    nats: Mapping[str, NDArray],
    num_bytes: NDArray,
    pairs: list[tuple[str, str]],
    bootstrap: Bootstrap,
) -> tuple[dict[tuple[str, str], tuple[float, float] | None], int]:
    """As `bits_per_byte_intervals`, from figures of chunks or tokens; also counts the documents.

    Args:
        document: [n] number of each one's document; nats and bytes are [n] as well.
    """
    _, document = np.unique(document, return_inverse=True)
    count = int(document.max(initial=-1)) + 1
    sums = {name: np.bincount(document, column, count) for name, column in nats.items()}
    # Bytes are integers far below 2**53, so float sums of them are exact.
    sizes = np.bincount(document, num_bytes, count)
    return bits_per_byte_intervals(sums, sizes, pairs, bootstrap), count


def _ends(
    deltas: NDArray[np.float64], documents: int, bootstrap: Bootstrap
) -> tuple[float, float] | None:
    """The interval of resampled differences; None if there are none."""
    if len(deltas) == 0:
        return None
    tail = _tail(documents, bootstrap.confidence)
    low, high = np.quantile(deltas, [tail, 1 - tail])
    return float(low), float(high)


def _tail(documents: int, confidence: float) -> float:
    """Share of the resamples beyond either end: what Student's t with the sample's own variance
    leaves of a normal distribution, whose variance the bootstrap underrates by (n - 1) / n.
    """
    width = stdtrit(documents - 1, (1 + confidence) / 2)
    return float(ndtr(-width * math.sqrt(documents / (documents - 1))))

"""Paired bootstrap over documents: intervals for differences of bits per byte.

Documents are resampled, since tokens of one document are not independent. Both conditions use the
same resamples, so that their common variation cancels. Intervals are percentile intervals (Efron
and Tibshirani, An Introduction to the Bootstrap, chapter 13), expanded for few documents
(Hesterberg, What Teachers Should Know About the Bootstrap, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

FEWEST = 5  # documents; with fewer, coverage would be far below the stated confidence
BLOCK = 4_000_000  # draws in memory at once; changing it changes the random numbers


@dataclass(frozen=True)
class Bootstrap:
    """Settings of bootstrap intervals.

    Attributes:
        samples: number of resamples.
        confidence: coverage of an interval, such as 0.95.
        seed: seed of the resamples.
        fewest: the fewest documents that give an interval; a class attribute, so not in results.
    """

    samples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    fewest: ClassVar[int] = FEWEST


def resampled_sums(
    sums: NDArray[np.float64], bootstrap: Bootstrap, *, at_once: int = BLOCK
) -> NDArray[np.float64]:
    """Column sums over documents drawn with replacement, for each resample.

    Args:
        sums: [documents, columns], such as nats and bytes.
        at_once: draws in memory at once.

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

    Documents and runs are crossed: each resample draws documents, the same for all runs, and runs
    with replacement. With one run the interval covers documents alone; few runs estimate the
    variation between runs poorly.

    Args:
        nats: [documents, runs] nats of one condition minus nats of another.
        num_bytes: [documents] UTF-8 bytes.

    Returns:
        (low, high); None with too few documents, or if no resample has a byte.
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
        (low, high) by pair; None with too few documents, or if no resample has a byte.
    """
    if len(num_bytes) < bootstrap.fewest or not pairs:
        return dict.fromkeys(pairs)
    conditions = sorted({name for pair in pairs for name in pair})
    columns = np.stack([nats[name] for name in conditions] + [num_bytes.astype(np.float64)], 1)
    resampled = resampled_sums(columns, bootstrap)
    bits = resampled[:, -1] * math.log(2)
    kept = bits > 0  # a resample without bytes has no bits per byte
    intervals: dict[tuple[str, str], tuple[float, float] | None] = {}
    for a, b in pairs:
        # Subtract before dividing, so that equal nats give exactly zero.
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
    """`bits_per_byte_intervals` from figures of n chunks or tokens, and the number of documents.

    Args:
        document: [n] document number of each chunk or token; nats and bytes are [n] as well.
    """
    _, document = np.unique(document, return_inverse=True)
    count = int(document.max(initial=-1)) + 1
    sums = {name: np.bincount(document, column, count) for name, column in nats.items()}
    # Byte counts are far below 2**53, so their float sums are exact.
    sizes = np.bincount(document, num_bytes, count)
    return bits_per_byte_intervals(sums, sizes, pairs, bootstrap), count


def _ends(
    deltas: NDArray[np.float64], documents: int, bootstrap: Bootstrap
) -> tuple[float, float] | None:
    """The interval of resampled differences; None without resamples."""
    if len(deltas) == 0:
        return None
    tail = _tail(documents, bootstrap.confidence)
    low, high = np.quantile(deltas, [tail, 1 - tail])
    return float(low), float(high)


def _tail(documents: int, confidence: float) -> float:
    """Share of the resamples beyond each end (Hesterberg's expanded percentile interval).

    It corrects for Student's t, and for the bootstrap variance, too small by (n - 1) / n.
    """
    width = stdtrit(documents - 1, (1 + confidence) / 2)
    return float(ndtr(-width * math.sqrt(documents / (documents - 1))))

"""Where the gain comes from: by overlap, by place in the document, by document.

Everything follows from chunks.parquet. The gain of a chunk is the nats that a condition needs less
than another on its tokens; sums of it are exact shares of the difference that `leakage` reports,
with the sign turned: here more is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError

from .chunk_table import ChunkTable
from .overlap import overlap_ratio, within
from .statistics import Bootstrap, bits_per_byte_intervals

EDGES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


@dataclass(frozen=True)
class GainBin:
    """Some chunks and what was gained on them.

    Attributes:
        name: what they have in common.
        chunks: how many there are.
        documents: documents that they are from.
        bytes: their UTF-8 bytes.
        gain: nats gained on all of them.
        bpb: bits per byte gained; None where there is no byte.
        low: lower end of its paired interval; None with fewer than two documents.
        high: upper end.
    """

    name: str
    chunks: int
    documents: int
    bytes: int
    gain: float
    bpb: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of overlap and gain a token, over chunks.

    Attributes:
        rho: -1 to 1; None where it is not defined, since all chunks are alike.
        chunks: chunks it is over.
    """

    rho: float | None
    chunks: int


@dataclass(frozen=True)
class Gain:
    """The gain of condition `a` over `b`, taken apart.

    Attributes:
        total: all chunks.
        by_overlap: chunks that could read a neighbour, by r(C); empty without overlap.
        correlation: of overlap and gain on the same chunks; None without overlap.
        by_position: all chunks, by number within the document, in doubling ranges from 0.
        by_document: one document each, the greatest gain first.
    """

    a: str
    b: str
    total: GainBin
    by_overlap: list[GainBin]
    correlation: Correlation | None
    by_position: list[GainBin]
    by_document: list[GainBin]

    def ends(self, count: int = 10) -> tuple[list[GainBin], list[GainBin]]:
        """The documents with the greatest gain and those with the smallest, greatest first.

        No document is in both; of few documents each end has half.
        """
        count = min(count, (len(self.by_document) + 1) // 2)
        return self.by_document[:count], self.by_document[
            max(count, len(self.by_document) - count) :
        ]

    def share(self, part: GainBin) -> float | None:
        """Share of the whole gain that a bin holds; None where nothing was gained in all."""
        return part.gain / self.total.gain if self.total.gain > 0 else None


def gain(
    table: ChunkTable,
    bootstrap: Bootstrap,
    *,
    a: str = "on",
    b: str = "baseline",
    edges: Sequence[float] = EDGES,
) -> Gain:
    """Takes the gain of `a` over `b` apart.

    Args:
        bootstrap: how the intervals are made.
        edges: ascending bounds of r(C); a bin is (edge, next edge], the first one has 0 as well.

    Raises:
        UserError: a condition that was not scored.
    """
    for condition in (a, b):
        if condition not in table.nats:
            scored = ", ".join(table.nats)
            raise UserError(
                f"condition {condition!r} was not scored; the run has {scored}",
                fix="compare two of these, or evaluate the run with its baseline beside it",
            )
    bins = _Bins(table, table.nats[b] - table.nats[a], bootstrap)
    return Gain(
        a,
        b,
        total=bins.of("all chunks", np.ones(len(table), np.bool_)),
        by_overlap=_by_overlap(bins, edges),
        correlation=_correlation(bins),
        by_position=_by_position(bins),
        by_document=_by_document(bins),
    )


class _Bins:
    """Sums over chosen chunks of one table."""

    def __init__(self, table: ChunkTable, nats: NDArray[np.float64], bootstrap: Bootstrap) -> None:
        self.table = table
        self.gain = nats
        self.bootstrap = bootstrap

    def of(self, name: str, chosen: NDArray[np.bool_]) -> GainBin:
        """The bin of the chosen chunks [S]."""
        _, document = np.unique(self.table.document[chosen], return_inverse=True)
        documents = int(document.max(initial=-1)) + 1
        sums = np.bincount(document, self.gain[chosen], documents)
        num_bytes = np.bincount(document, self.table.bytes[chosen], documents)
        pair = ("gain", "nothing")
        nats = {"gain": sums, "nothing": np.zeros(documents)}
        interval = bits_per_byte_intervals(nats, num_bytes, [pair], self.bootstrap)[pair]
        total, size = math.fsum(self.gain[chosen]), int(num_bytes.sum())
        low, high = interval or (None, None)
        chunks = int(chosen.sum())
        return GainBin(name, chunks, documents, size, total, _bits(total, size), low, high)


def _bits(nats: float, num_bytes: int) -> float | None:
    return nats / (math.log(2) * num_bytes) if num_bytes else None


def _readers(table: ChunkTable) -> NDArray[np.bool_]:
    """[S] chunks with a token that could read a neighbour; the others have nothing to gain from."""
    return table.with_retrieval > 0


def _by_overlap(bins: _Bins, edges: Sequence[float]) -> list[GainBin]:
    overlap, readers = bins.table.overlap, _readers(bins.table)
    if overlap is None:
        return []
    below = np.zeros(len(readers), np.bool_)
    found = []
    for low, high in pairwise(edges):
        kept = within(high, overlap.longest_run, bins.table.tokens)
        found.append(bins.of(f"{low:g} to {high:g}", readers & kept & ~below))
        below = kept
    return found


def _correlation(bins: _Bins) -> Correlation | None:
    table, readers = bins.table, _readers(bins.table)
    if table.overlap is None:
        return None
    from scipy.stats import rankdata

    ratio = overlap_ratio(table.overlap.longest_run, table.tokens)[readers]
    per_token = bins.gain[readers] / table.tokens[readers]
    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (ratio, per_token))
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return Correlation(float(x @ y) / spread if spread else None, int(readers.sum()))


def _by_position(bins: _Bins) -> list[GainBin]:
    """0, 1, 2-3, 4-7 and so on: late chunks are rare, and range over ever longer contexts."""
    index = bins.table.chunk_index
    found, start, stop = [], 0, 1
    while start <= index.max(initial=-1):
        name = str(start) if stop == start + 1 else f"{start}-{stop - 1}"
        found.append(bins.of(name, (index >= start) & (index < stop)))
        start, stop = stop, 2 * stop
    return found


def _by_document(bins: _Bins) -> list[GainBin]:
    table = bins.table
    _, first, document = np.unique(table.document, return_index=True, return_inverse=True)
    sums = np.bincount(document, bins.gain, len(first))
    chunks = np.bincount(document, minlength=len(first))
    num_bytes = np.bincount(document, table.bytes, len(first)).astype(np.int64)
    rows = zip(table.document_id[first], chunks, num_bytes, sums, strict=True)
    found = [
        GainBin(str(name), int(n), 1, int(size), float(nats), _bits(nats, size), None, None)
        for name, n, size, nats in rows
    ]
    return sorted(found, key=lambda part: (-part.gain, part.name))

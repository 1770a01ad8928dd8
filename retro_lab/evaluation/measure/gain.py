"""Breaks the gain down by overlap, position, neighbour and document.

The gain of a chunk is the nats of condition `b` minus those of condition `a` on its tokens. More is
better: the differences in `leakage` have the opposite sign. Gains of parts add up to the total.
Figures come from chunks.parquet, those by place in the chunk from tokens.parquet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError

from ..records.chunk_table import ChunkTable
from ..records.token_table import TokenTable
from .overlap import overlap_ratio, within
from .statistics import Bootstrap, chunk_intervals

MATCHING_RUN = 4  # tokens; shorter runs are shared by chance
SCORE_BINS = 5
PLACE_BINS = 8
MISSING, SEVERAL = -1, -2
EDGES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


@dataclass(frozen=True)
class GainBin:
    """The gain on a set of chunks or tokens.

    Attributes:
        name: label of the set.
        chunks: number of chunks; of tokens in bins by place in the chunk.
        documents: number of documents they are from.
        bytes: their UTF-8 bytes.
        gain: total nats gained.
        bpb: bits per byte gained; None without bytes.
        low: lower end of the paired interval; None with fewer than five documents.
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
    """Spearman's rank correlation over chunks between overlap or retrieval score and gain a token.

    Attributes:
        rho: -1 to 1; None if all chunks have the same value.
        chunks: number of chunks.
    """

    rho: float | None
    chunks: int


@dataclass(frozen=True)
class Gain:
    """The gain of condition `a` over `b`, broken down.

    Attributes:
        a: the condition that gains.
        b: the condition that it gains over.
        total: all chunks.
        by_overlap: chunks that could read a neighbour, by r(C); empty if overlap is not measured.
        correlation: of overlap and gain on the same chunks; None if overlap is not measured.
        by_position: all chunks, by number within the document, in doubling ranges from 0.
        by_rank: chunks that could read a neighbour, by the rank of the neighbour that shares the
            longest run with the chunk. "none": no run of 4 tokens; "several": a tie. Empty if runs
            were not measured.
        by_score: the same chunks in five bins of equal size, by the retrieval score of the best
            neighbour read.
        score_correlation: of this score and the gain; None if scores are not known.
        by_place: tokens that could read a neighbour, by place in their chunk, in eight ranges;
            empty without token scores. Place 0 is predicted at the last position of the previous
            chunk, the first position that reads the neighbours of that chunk.
        by_document: one bin a document, the greatest gain first.
    """

    a: str
    b: str
    total: GainBin
    by_overlap: list[GainBin]
    correlation: Correlation | None
    by_position: list[GainBin]
    by_document: list[GainBin]
    by_rank: list[GainBin] = field(default_factory=list)
    by_score: list[GainBin] = field(default_factory=list)
    score_correlation: Correlation | None = None
    by_place: list[GainBin] = field(default_factory=list)

    @property
    def noun(self) -> str:
        """`gain` over the plain model, else `saving`: other models have read fewer tokens."""
        return "gain" if self.b == "plain" else "saving"

    def ends(self, count: int = 10) -> tuple[list[GainBin], list[GainBin]]:
        """The `count` documents with the greatest gain and those with the smallest.

        Both lists begin with the greater gain; of few documents each list has half.
        """
        count = min(count, (len(self.by_document) + 1) // 2)
        return self.by_document[:count], self.by_document[
            max(count, len(self.by_document) - count) :
        ]

    def share(self, part: GainBin) -> float | None:
        """A bin's share of the total gain; None if the total is not positive."""
        return part.gain / self.total.gain if self.total.gain > 0 else None


def gain(
    table: ChunkTable,
    bootstrap: Bootstrap,
    tokens: TokenTable | None = None,
    *,
    a: str = "on",
    b: str = "plain",
    edges: Sequence[float] = EDGES,
) -> Gain:
    """Breaks down the gain of condition `a` over `b`.

    Args:
        bootstrap: settings of the intervals.
        tokens: the scored tokens of the same chunks, for `by_place`.
        edges: ascending bounds of r(C); bins are (edge, next edge], and the first includes 0.

    Raises:
        UserError: a condition was not scored.
    """
    for condition in (a, b):
        if condition not in table.nats:
            scored = ", ".join(table.nats)
            raise UserError(
                f"condition {condition!r} was not scored; the run has {scored}",
                fix="compare two of these, or evaluate the run with its plain models beside it",
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
        by_rank=_by_rank(bins),
        by_score=_by_score(bins),
        score_correlation=_score_correlation(bins),
        by_place=[] if tokens is None else _by_place(table, tokens, a, b, bootstrap),
    )


class _Bins:
    """Makes bins of chunks of one table."""

    def __init__(self, table: ChunkTable, nats: NDArray[np.float64], bootstrap: Bootstrap) -> None:
        self.table = table
        self.gain = nats
        self.bootstrap = bootstrap

    def of(self, name: str, chosen: NDArray[np.bool_]) -> GainBin:
        """The bin of the chosen chunks [S]."""
        table = self.table
        columns = (table.document[chosen], table.bytes[chosen], self.gain[chosen])
        return _bin(name, *columns, self.bootstrap)


def _bin(
    name: str, document: NDArray, num_bytes: NDArray, gain: NDArray, bootstrap: Bootstrap
) -> GainBin:
    """The bin of n chunks or tokens, from their documents, bytes and gains, [n] each."""
    pair, nats = ("gain", "nothing"), {"gain": gain, "nothing": np.zeros(len(gain))}
    intervals, documents = chunk_intervals(document, nats, num_bytes, [pair], bootstrap)
    total, size = math.fsum(gain), int(num_bytes.sum())
    low, high = intervals[pair] or (None, None)
    return GainBin(name, len(gain), documents, size, total, _bits(total, size), low, high)


def _bits(nats: float, num_bytes: int) -> float | None:
    return float(nats / (math.log(2) * num_bytes)) if num_bytes else None


def _readers(table: ChunkTable) -> NDArray[np.bool_]:
    """[S] whether a chunk has a token that could read a neighbour."""
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
    ratio = overlap_ratio(table.overlap.longest_run, table.tokens)[readers]
    return _spearman(ratio, bins.gain[readers] / table.tokens[readers])


def _spearman(x: NDArray, y: NDArray) -> Correlation:
    from scipy.stats import rankdata

    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (x, y))
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return Correlation(float(x @ y) / spread if spread else None, len(x))


def _read_best(table: ChunkTable) -> tuple[NDArray[np.bool_], NDArray[np.float32]] | None:
    """[S] whether a chunk read a neighbour, and [S] the best neighbour's score; None if unknown."""
    if table.reading is None or table.neighbours.shape[1] == 0:
        return None
    present = table.neighbours >= 0
    scores = np.where(present, table.reading.scores, -np.inf).max(axis=1)
    return _readers(table) & present.any(axis=1), scores


def _by_rank(bins: _Bins) -> list[GainBin]:
    table, best = bins.table, _read_best(bins.table)
    if best is None or table.reading is None:
        return []
    readers, _ = best
    runs = np.where(table.neighbours >= 0, table.reading.runs, 0)
    longest = runs.max(axis=1)
    tied = (runs == longest[:, None]).sum(axis=1) > 1
    rank = np.where(tied, SEVERAL, runs.argmax(axis=1))
    rank[longest < MATCHING_RUN] = MISSING
    found = [bins.of("none", readers & (rank == MISSING))]
    for number in range(runs.shape[1]):
        found.append(bins.of(str(number + 1), readers & (rank == number)))
    if runs.shape[1] > 1:
        found.append(bins.of("several", readers & (rank == SEVERAL)))
    return found


def _by_score(bins: _Bins) -> list[GainBin]:
    best = _read_best(bins.table)
    if best is None or not best[0].any():
        return []
    readers, scores = best
    edges = np.unique(np.quantile(scores[readers], np.linspace(0, 1, SCORE_BINS + 1)))
    if len(edges) == 1:
        return [bins.of(f"{edges[0]:.4g}", readers)]
    place = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, len(edges) - 2)
    return [
        bins.of(f"{low:.4g} to {high:.4g}", readers & (place == number))
        for number, (low, high) in enumerate(pairwise(edges))
    ]


def _score_correlation(bins: _Bins) -> Correlation | None:
    best = _read_best(bins.table)
    if best is None:
        return None
    readers, scores = best
    return _spearman(scores[readers], bins.gain[readers] / bins.table.tokens[readers])


def _by_place(
    table: ChunkTable, tokens: TokenTable, a: str, b: str, bootstrap: Bootstrap
) -> list[GainBin]:
    saved, last = tokens.nats[b] - tokens.nats[a], int(tokens.place.max(initial=0))
    edges = np.unique(np.linspace(0, last + 1, min(PLACE_BINS, last + 1) + 1).round().astype(int))
    document = table.document[tokens.chunk_row]
    found = []
    for start, stop in pairwise(edges):
        chosen = tokens.with_retrieval & (tokens.place >= start) & (tokens.place < stop)
        name = str(start) if stop == start + 1 else f"{start}-{stop - 1}"
        columns = (document[chosen], tokens.bytes[chosen], saved[chosen])
        found.append(_bin(name, *columns, bootstrap))
    return found


def _by_position(bins: _Bins) -> list[GainBin]:
    """Bins 0, 1, 2-3, 4-7 and so on, since late chunks are rare."""
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

"""Where the gain comes from: by overlap, place, neighbour and document.

Everything follows from chunks.parquet, and by place in the chunk from tokens.parquet. The gain of a
chunk is the nats that a condition needs less than another on its tokens; sums of it are exact
shares of the difference that `leakage` reports, with the sign turned: here more is better.
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

MATCHING_RUN = 4  # tokens: a shorter run is shared by chance
SCORE_BINS = 5
PLACE_BINS = 8
MISSING, SEVERAL = -1, -2
EDGES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


@dataclass(frozen=True)
class GainBin:
    """Some chunks, or some tokens of them, and what was gained there.

    Attributes:
        name: what they have in common.
        chunks: how many there are; tokens, in bins by place in the chunk.
        documents: documents that they are from.
        bytes: their UTF-8 bytes.
        gain: nats gained on all of them.
        bpb: bits per byte gained; None where there is no byte.
        low: lower end of its paired interval; None with fewer than five documents.
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
    """Spearman's rank correlation of overlap or retrieval score with gain a token, over chunks.

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
        by_rank: chunks that could read a neighbour, by the rank of the one that shares the longest
            run with them, if that is a run of 4 tokens or more; those with which several share as
            long a one are apart, since they speak for no rank; empty if it was not measured.
        by_score: the same chunks in five parts of equal size, by the retriever's score of the best
            neighbour read.
        score_correlation: of that score and the gain; None if it was not measured.
        by_place: tokens that could read a neighbour, by place in their chunk, in eight ranges;
            empty without token scores. The first token of a chunk is predicted from the last
            position of the chunk before, which is the first to read that chunk's neighbours.
        by_document: one document each, the greatest gain first.
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
        """`gain` over the plain model; over what has read fewer tokens it is only a `saving`."""
        return "gain" if self.b == "plain" else "saving"

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
    tokens: TokenTable | None = None,
    *,
    a: str = "on",
    b: str = "plain",
    edges: Sequence[float] = EDGES,
) -> Gain:
    """Takes the gain of `a` over `b` apart.

    Args:
        bootstrap: how the intervals are made.
        tokens: the scored tokens of the same chunks, where they are known.
        edges: ascending bounds of r(C); a bin is (edge, next edge], the first one has 0 as well.

    Raises:
        UserError: a condition that was not scored.
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
    """Sums over chosen chunks of one table."""

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
    """The bin of some chunks or tokens, from their documents, bytes and gains, [n] each."""
    pair, nats = ("gain", "nothing"), {"gain": gain, "nothing": np.zeros(len(gain))}
    intervals, documents = chunk_intervals(document, nats, num_bytes, [pair], bootstrap)
    total, size = math.fsum(gain), int(num_bytes.sum())
    low, high = intervals[pair] or (None, None)
    return GainBin(name, len(gain), documents, size, total, _bits(total, size), low, high)


def _bits(nats: float, num_bytes: int) -> float | None:
    return float(nats / (math.log(2) * num_bytes)) if num_bytes else None


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
    ratio = overlap_ratio(table.overlap.longest_run, table.tokens)[readers]
    return _spearman(ratio, bins.gain[readers] / table.tokens[readers])


def _spearman(x: NDArray, y: NDArray) -> Correlation:
    from scipy.stats import rankdata

    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (x, y))
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return Correlation(float(x @ y) / spread if spread else None, len(x))


def _read_best(table: ChunkTable) -> tuple[NDArray[np.bool_], NDArray[np.float32]] | None:
    """[S] chunks that read a neighbour, and its score, of the best one; None if not known."""
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

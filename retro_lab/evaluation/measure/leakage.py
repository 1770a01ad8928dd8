"""Leakage curves bpb(alpha): bits per byte over the chunks with r(C) <= alpha.

r(C) is the overlap of a chunk with the reference text. It does not depend on the model, so all
conditions keep the same chunks. A small alpha keeps harder text, so conditions are compared at the
same alpha only, with a paired interval over documents. Source: RETRO, section 2.6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..records.chunk_table import ChunkTable
from .conditions import compared_with, in_order, pairs_of
from .overlap import within
from .statistics import FEWEST, Bootstrap, chunk_intervals

LEAK_FREE_ALPHA = 0.125  # at most 8 tokens in a row of 64: "no local leakage" in the paper
UNFILTERED = 1.0
COPY_ALPHA = 0.875  # chunks with a larger r(C) count as near-copies


@dataclass(frozen=True)
class CurvePoint:
    """One condition on the chunks with r(C) <= alpha.

    Attributes:
        alpha: upper bound on r(C).
        bpb: bits per byte; None without chunks.
        ppl: perplexity a token; None without chunks.
        chunks: number of chunks kept.
        tokens: their scored tokens.
        bytes: their UTF-8 bytes.
        documents: number of documents with a kept chunk.
    """

    alpha: float
    bpb: float | None
    ppl: float | None
    chunks: int
    tokens: int
    bytes: int
    documents: int


@dataclass(frozen=True)
class Difference:
    """bpb of condition a minus bpb of b on the chunks with r(C) <= alpha; negative: a is better.

    Attributes:
        a: a condition.
        b: the condition that it is compared with.
        alpha: upper bound on r(C).
        delta_bpb: the difference; None without chunks.
        low: lower end of the paired interval; None with fewer than five documents.
        high: upper end.
        documents: number of documents with a kept chunk, the units of resampling.
    """

    a: str
    b: str
    alpha: float
    delta_bpb: float | None
    low: float | None
    high: float | None
    documents: int


@dataclass(frozen=True)
class Copies:
    """Near-copies, the chunks with r(C) > 0.875, and the saving on them.

    Attributes:
        chunks: number of near-copies.
        bytes: their bytes.
        documents: number of documents with a near-copy.
        chunks_in_three: near-copies in the three documents that hold most of them.
        saved_over: the condition that RETRO[ON] is compared with, or None.
        share_of_saving: share of the nats saved over this condition that is saved on near-copies;
            None if RETRO[ON] saves nothing in total.
    """

    chunks: int
    bytes: int
    documents: int
    chunks_in_three: int
    saved_over: str | None
    share_of_saving: float | None


@dataclass(frozen=True)
class Leakage:
    """The leakage part of results.json.

    Attributes:
        reference: the text that r(C) is measured against; None if overlap was not measured.
        alphas: ascending, always with 1 (unfiltered), which is the only one without overlap.
        bootstrap: settings of the intervals.
        curves: by condition, one point for each alpha.
        differences: one for each pair and alpha.
        notes: caveats about the figures, as sentences.
        copies: near-copies; None if overlap was not measured, and in older results.
    """

    reference: str | None
    alphas: list[float]
    bootstrap: Bootstrap
    curves: dict[str, list[CurvePoint]]
    differences: list[Difference]
    notes: list[str] = field(default_factory=list)
    copies: Copies | None = None

    def difference(self, a: str, b: str, alpha: float) -> Difference | None:
        """The difference of a pair at an alpha, or None if it was not measured."""
        wanted = (a, b, alpha)
        return next((d for d in self.differences if (d.a, d.b, d.alpha) == wanted), None)


def analyse(
    table: ChunkTable, alphas: Iterable[float], reference: str | None, bootstrap: Bootstrap
) -> Leakage:
    """Curves and paired differences of all conditions of a table.

    Args:
        alphas: upper bounds on r(C); 1 is added, and is the only one used without overlap.
        reference: the text that the table's overlap was measured against.

    Raises:
        ValueError: an alpha is not between 0 and 1.
    """
    notes: list[str] = []
    bounds = sorted({*map(float, alphas), UNFILTERED})
    if not 0 <= bounds[0] <= bounds[-1] <= UNFILTERED:
        raise ValueError(f"alphas are shares from 0 to 1, not {bounds}")
    if table.overlap is None:
        reference, bounds = None, [UNFILTERED]
        notes.append("Overlap was not measured, so nothing can be said about leakage.")
    copies = None if table.overlap is None else _copies(table)
    curves: dict[str, list[CurvePoint]] = {name: [] for name in in_order(table.nats)}
    differences: list[Difference] = []
    for alpha in bounds:
        kept = _kept(table, alpha)
        documents = len(np.unique(table.document[kept]))
        for name, points in curves.items():
            points.append(_point(table, name, alpha, kept, documents))
        differences += _differences(table, alpha, kept, bootstrap)
    if empty := [p.alpha for p in next(iter(curves.values()), []) if not p.chunks]:
        below = " or a smaller one" if len(empty) > 1 else ""
        notes.append(
            f"No scored chunk has r(C) <= {empty[-1]:g}: there is no figure at this alpha{below}."
        )
    notes += _without_interval(next(iter(curves.values()), []))
    return Leakage(reference, bounds, bootstrap, curves, differences, notes, copies)


def _kept(table: ChunkTable, alpha: float) -> NDArray[np.bool_]:
    if table.overlap is None:
        return np.ones(len(table), np.bool_)
    return within(alpha, table.overlap.longest_run, table.tokens)


def _point(
    table: ChunkTable, condition: str, alpha: float, kept: NDArray[np.bool_], documents: int
) -> CurvePoint:
    score = table.score(condition, kept)
    figures = score.as_dict()
    return CurvePoint(
        alpha=alpha,
        bpb=figures["bpb"],
        ppl=figures["ppl"],
        chunks=int(kept.sum()),
        tokens=score.tokens,
        bytes=score.bytes,
        documents=documents,
    )


def _differences(
    table: ChunkTable, alpha: float, kept: NDArray[np.bool_], bootstrap: Bootstrap
) -> list[Difference]:
    pairs = pairs_of(table.nats)
    nats = {name: column[kept] for name, column in table.nats.items()}
    intervals, documents = chunk_intervals(
        table.document[kept], nats, table.bytes[kept], pairs, bootstrap
    )
    differences = []
    for a, b in pairs:
        score_a, score_b = table.score(a, kept), table.score(b, kept)
        delta = score_a.bpb - score_b.bpb if score_a.bytes else None
        low, high = intervals[a, b] or (None, None)
        differences.append(Difference(a, b, alpha, delta, low, high, documents))
    return differences


def _copies(table: ChunkTable) -> Copies:
    copied = ~_kept(table, COPY_ALPHA)
    _, per_document = np.unique(table.document[copied], return_counts=True)
    other = compared_with(table.nats) if "on" in table.nats else None
    share = None
    if other is not None:
        saved = table.nats[other] - table.nats["on"]
        total = math.fsum(saved)
        share = math.fsum(saved[copied]) / total if total > 0 else None
    return Copies(
        chunks=int(copied.sum()),
        bytes=int(table.bytes[copied].sum()),
        documents=len(per_document),
        chunks_in_three=int(np.sort(per_document)[-3:].sum()),
        saved_over=other,
        share_of_saving=share,
    )


def _without_interval(points: Sequence[CurvePoint]) -> list[str]:
    """A note on the largest alpha with too few documents for an interval, if there is one."""
    few = [point for point in points if 0 < point.documents < FEWEST]
    if not few:
        return []
    kept, where = few[-1], "were scored"
    if kept.alpha < UNFILTERED:
        where = f"have chunks with r(C) <= {kept.alpha:g}"
    return [
        f"Too few documents {where} for an interval: {kept.documents}, and {FEWEST} are the fewest "
        "that give one."
    ]

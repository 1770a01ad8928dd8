"""Groups runs that differ only in their seed: mean, interval over seeds, best seed and cost.

The interval over seeds is the uncertainty of training again; the paired interval over documents,
which each run has, is the uncertainty on other text. Neither replaces the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..report.sweep import SweepRow, in_sweep_order

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean of a figure over seeds, with Student's t interval.

    Attributes:
        low: lower end of the interval; None with one seed.
        high: upper end.
    """

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SeedGroup:
    """Runs with the same settings, one for each seed.

    Attributes:
        rows: in the order of their seeds.
        bpb: bits per byte over all chunks.
        gain: on minus plain, or minus baseline, all chunks; None unless all have the pair.
        leak_free: as `gain`, on chunks with r(C) <= 0.125.
        memory: bits per byte with a memory; None unless all read one.
        saving: the memory's difference from the same model without it, all chunks.
        flops: mean training FLOPs of a run; None if unknown.
        seconds: mean training time of a run; None if unknown.
    """

    rows: list[SweepRow]
    bpb: Spread
    gain: Spread | None
    leak_free: Spread | None
    memory: Spread | None
    saving: Spread | None
    flops: float | None
    seconds: float | None

    @property
    def best(self) -> SweepRow:
        """The run with the fewest bits per byte."""
        return min(self.rows, key=lambda row: row.score.bpb)


def spread(values: Sequence[float]) -> Spread:
    """Mean and Student's t interval of at least one value."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Spread(mean, None, None)
    from scipy.stats import t

    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    return Spread(mean, mean - half, mean + half)


def by_settings(rows: Iterable[SweepRow]) -> list[SeedGroup]:
    """Groups in sweep order; a run without recorded settings is a group of its own."""
    groups: dict[str, list[SweepRow]] = {}
    for row in in_sweep_order(rows):
        groups.setdefault(row.settings or row.run_key, []).append(row)
    return [_group(group) for group in groups.values()]


def _group(rows: list[SweepRow]) -> SeedGroup:
    same = [row for row in rows if row.against == rows[0].against]
    gains = [row.difference.delta_bpb for row in same if row.difference is not None]
    clean = [row.leak_free.delta_bpb for row in same if row.leak_free is not None]
    return SeedGroup(
        rows,
        spread([row.score.bpb for row in rows]),
        _of_all(gains, len(rows)),
        _of_all(clean, len(rows)),
        _of_all([row.memory and row.memory.bpb for row in rows], len(rows)),
        _of_all([row.saving and row.saving.delta_bpb for row in rows], len(rows)),
        _mean([row.flops for row in rows]),
        _mean([row.seconds for row in rows]),
    )


def _of_all(values: list[float | None], count: int) -> Spread | None:
    """The spread of the values; None unless all `count` runs have the figure."""
    known = [value for value in values if value is not None]
    return spread(known) if len(known) == count else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None

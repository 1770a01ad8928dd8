"""Runs that differ in their seed alone, as one: mean, interval over seeds, best, and cost.

The interval over seeds says how far a figure would move if the run were trained again; the paired
interval over documents, which each run has, says how far it would move on other text. Neither
stands for the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .sweep import SweepRow, in_sweep_order, varying

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: over seeds.
        low: lower end of Student's t interval of the mean; None with one seed.
        high: upper end.
    """

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SeedGroup:
    """Runs of the same settings, one a seed.

    Attributes:
        rows: in the order of their seeds.
        bpb: bits per byte over all chunks.
        gain: on minus baseline, all chunks; None where a run has no baseline beside it.
        leak_free: the same on chunks with r(C) <= 0.125.
        flops: a run's training, mean over seeds; None if it is not known.
        seconds: a run's training, mean over seeds; None if it is not known.
    """

    rows: list[SweepRow]
    bpb: Spread
    gain: Spread | None
    leak_free: Spread | None
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
    """Groups in the order of a sweep; runs without recorded settings stay apart."""
    groups: dict[str, list[SweepRow]] = {}
    for row in in_sweep_order(rows):
        groups.setdefault(row.settings or row.run_key, []).append(row)
    return [_group(group) for group in groups.values()]


def _group(rows: list[SweepRow]) -> SeedGroup:
    gains = [row.difference.delta_bpb for row in rows if row.difference is not None]
    clean = [row.leak_free.delta_bpb for row in rows if row.leak_free is not None]
    return SeedGroup(
        rows,
        spread([row.score.bpb for row in rows]),
        _of_all(gains, len(rows)),
        _of_all(clean, len(rows)),
        _mean([row.flops for row in rows]),
        _mean([row.seconds for row in rows]),
    )


def _of_all(values: list[float | None], count: int) -> Spread | None:
    """A spread only where every run has the figure: a mean of some would be of other seeds."""
    known = [value for value in values if value is not None]
    return spread(known) if len(known) == count else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


FIGURES = 8  # columns at the end of a report, from k on


def report_cells(groups: Sequence[SeedGroup]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the report, as text: what tells groups apart, then the figures."""
    rows = [row for group in groups for row in group.rows]
    names = [name for name in varying(rows) if name != "seed"]
    heads = [
        *(name.replace("_", " ") for name in names),
        *("k", "seeds", "bits/byte", f"best on {_scored(groups)}"),
        *("on - baseline", "r(C) ≤ 0.125", "FLOPs", "time"),
    ]
    cells = [
        [
            *(str(getattr(group.rows[0], name)) for name in names),
            str(group.rows[0].k or "-"),
            str(len(group.rows)),
            _text(group.bpb, ".4f"),
            f"{group.best.score.bpb:.4f}",
            _text(group.gain, "+.4f"),
            _text(group.leak_free, "+.4f"),
            "-" if group.flops is None else f"{group.flops:.2g}",
            "-" if group.seconds is None else _duration(group.seconds),
        ]
        for group in groups
    ]
    return heads, cells


def _scored(groups: Sequence[SeedGroup]) -> str:
    splits = {row.split for group in groups for row in group.rows}
    return splits.pop() if len(splits) == 1 else "its split"


def _text(found: Spread | None, form: str) -> str:
    """`2.1908 ± 0.0123`; with one seed the value alone."""
    if found is None:
        return "-"
    if found.high is None:
        return format(found.mean, form)
    return f"{found.mean:{form}} ± {found.high - found.mean:.4f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def in_words(groups: Sequence[SeedGroup]) -> str:
    """What the intervals of a report are, which groups have none, and what "best" was picked on."""
    single = sum(len(group.rows) == 1 for group in groups)
    words = f"± is the {100 * CONFIDENCE:g} % t interval over seeds"
    if single == len(groups):
        words = "One seed each: there is no interval over seeds, train others with seed=2, seed=3"
    elif single:
        words += f"; {single} of {len(groups)} have one seed, and so no interval"
    split = _scored(groups)
    chosen = split if split == "its split" else f"the {split} split"
    return f"{words}. Best is picked on {chosen}: a choice made on it is no estimate."

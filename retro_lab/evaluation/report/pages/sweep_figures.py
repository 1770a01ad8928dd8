"""The figures of a report's page: bits per byte against the varying settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...measure.seeds import SeedGroup, by_settings
from ..sweep import SweepRow
from ..sweep_plot import Axis, SweepPlan, bar, reference_scores, with_memory
from ..sweep_tables import short
from .figures import Figure, Series

_REFERENCE = 7  # colour


def sweep_figures(rows: Sequence[SweepRow]) -> list[Figure]:
    """A figure for each scored split and each drawn setting, as `plot_sweep` draws them."""
    plan, found = SweepPlan.of(rows), []
    for split, scored in plan.splits.items():
        for name in plan.panels:
            axis = Axis.of(scored, name)
            if axis.values:
                if plan.searched:
                    x, series = _points(scored, axis)
                    note = "A point is a run."
                else:
                    x, series = _lines(plan.lines[split], axis)
                    note = _note(scored)
                series = [*series, *_references(scored, len(x))]
                found.append(_figure(f"{split} split", axis, x, series, note))
    return found


def _figure(
    what: str, axis: Axis, x: Sequence[float], series: Sequence[Series], note: str
) -> Figure:
    name = "k: neighbours a chunk reads" if axis.name == "k" else axis.name
    ticks = None if axis.is_number else [short(axis.values[int(at)]) for at in x]
    title = f"{what}: bits per byte by {axis.name}, lower is better"
    return Figure(title, x, name, "bits per byte", series, ticks, axis.is_log, note)


def _points(rows: Sequence[SweepRow], axis: Axis) -> tuple[list[float], list[Series]]:
    """A point for each run that has the setting, the best one in a colour of its own."""
    placed = [(at, row) for row in rows if (at := axis.at(row, 0.0)) is not None]
    placed.sort(key=lambda pair: (pair[0], pair[1].score.bpb))
    best = min((row for _, row in placed), key=lambda row: row.score.bpb)
    values = [row.score.bpb for _, row in placed]
    own = [row.score.bpb if row is best else None for _, row in placed]
    return [at for at, _ in placed], [
        Series("runs", values, 0, line=False),
        Series("best", own, 1, line=False),
    ]


def _lines(lines: Mapping[str, Sequence[SweepRow]], axis: Axis) -> tuple[list[float], list[Series]]:
    """A line through the means over seeds, with intervals; level for runs without neighbours."""
    groups = {name: by_settings(rows) for name, rows in lines.items()}
    seeds = any(len(group.rows) > 1 for found in groups.values() for group in found)
    places = {at for found in groups.values() for g in found if (at := _at(axis, g)) is not None}
    x, series = sorted(places), []
    for number, (name, found) in enumerate(groups.items()):
        placed = {at: group for group in found if (at := _at(axis, group)) is not None}
        colour = number % _REFERENCE
        if placed:
            bars = [bar(placed[at], seeds) if at in placed else (None, None) for at in x]
            means = [placed[at].bpb.mean if at in placed else None for at in x]
            low, high = [b[0] for b in bars], [b[1] for b in bars]
            series.append(Series(name, means, colour, low, high))
            read = [placed[at].memory if at in placed else None for at in x]
            if any(read):
                with_it = [each and each.mean for each in read]
                series.append(Series(with_memory(name), with_it, colour, dash=(2, 4)))
        for group in found:
            if _at(axis, group) is None:
                level = [group.bpb.mean] * len(x)
                label = f"{name} (no neighbours)"
                series.append(Series(label, level, colour, points=len(x) == 1, dash=(2, 4)))
    return x, series


def _at(axis: Axis, group: SeedGroup) -> float | None:
    return axis.at(group.rows[0], 0.0)


def _references(rows: Sequence[SweepRow], count: int) -> list[Series]:
    """Level lines of the models that the runs are compared with."""
    return [
        Series(name, [found.mean] * count, _REFERENCE, points=count == 1, dash=(6, 4))
        for name, found in reference_scores(rows)
    ]


def _note(rows: Sequence[SweepRow]) -> str:
    if any(len(group.rows) > 1 for group in by_settings(rows)):
        return "Points: means over seeds. Bars: t intervals over seeds."
    return "Bars: paired interval of the difference from the model compared with."

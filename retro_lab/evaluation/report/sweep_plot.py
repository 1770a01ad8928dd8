"""The figure of a report: bits per byte against the varying settings, for each scored split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..measure.seeds import SeedGroup, Spread, by_settings, spread
from .plots import COLOURS, INK, MARKERS, PALE, SOFT, save, tidy
from .sweep import OF_RETRIEVAL, SweepRow, by_split, in_sweep_order, value_of, varying
from .sweep_tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OF_COMPARED = ("model", "chunk_size", "corpus", "stride")
MOST_LINES = len(COLOURS)
MOST_PANELS = 4  # side by side
MOST_TICKS = 8


@dataclass(frozen=True)
class Axis:
    """The x axis of a panel.

    Attributes:
        name: a column or a setting.
        values: all its values, sorted.
    """

    name: str
    values: list[Any]

    @classmethod
    def of(cls, rows: Sequence[SweepRow], name: str) -> Axis:
        found = {_place(row, name) for row in rows} - {None}
        numbers = all(_is_number(value) for value in found)
        return cls(name, sorted(found, key=None if numbers else str))

    @property
    def is_number(self) -> bool:
        return bool(self.values) and all(map(_is_number, self.values))

    @property
    def is_log(self) -> bool:
        positive = self.is_number and self.values[0] > 0
        return positive and self.values[-1] >= 4 * self.values[0]

    def at(self, row: SweepRow, shift: float) -> float | None:
        """The x position of a row; None if the row lacks the value.

        Args:
            shift: offset of its line, from -1 to 1, so that bars at one value do not overlap.
        """
        value = _place(row, self.name)
        if value is None:
            return None
        if self.is_log:
            return value * 2 ** (0.15 * shift)
        extent = (self.values[-1] - self.values[0]) if self.is_number else len(self.values) - 1
        return (value if self.is_number else self.values.index(value)) + 0.02 * shift * extent

    def format_axes(self, axes: Axes) -> None:
        """Sets scale, ticks and label."""
        axes.set_xlabel("k: neighbours a chunk reads" if self.name == "k" else self.name)
        if not self.values:
            axes.set_xticks([])
            return
        if self.is_log:
            axes.set_xscale("log")
        places = self.values if self.is_number else list(range(len(self.values)))
        if len(self.values) <= MOST_TICKS or not self.is_number:
            axes.set_xticks(places, [short(value) for value in self.values])
            axes.minorticks_off()
        if not self.is_number and max(len(short(value)) for value in self.values) > 8:
            axes.tick_params(axis="x", labelrotation=30)
        if len(self.values) == 1:
            around = (places[0] / 1.25, places[0] * 1.25) if self.is_log else None
            axes.set_xlim(*(around or (places[0] - 1, places[0] + 1)))


@dataclass(frozen=True)
class SweepPlan:
    """What the figures of a report draw.

    Attributes:
        splits: rows by scored split.
        lines: by split, rows by line label.
        panels: names of the x axes, side by side.
        searched: draw points instead of lines: there are too many lines, or one point for each.
    """

    splits: dict[str, list[SweepRow]]
    lines: dict[str, dict[str, list[SweepRow]]]
    panels: list[str]
    searched: bool

    @classmethod
    def of(cls, rows: Sequence[SweepRow]) -> SweepPlan:
        rows = _without_compared(rows)
        splits, names = by_split(in_sweep_order(rows)), _drawn(rows)
        lines = {split: _lines(found, names) for split, found in splits.items()}
        numbers = sum(Axis.of(rows, name).is_number for name in names)
        alone = all(
            len(by_settings(line)) == 1 for found in lines.values() for line in found.values()
        )
        searched = max(map(len, lines.values())) > MOST_LINES or (alone and numbers > 1)
        return cls(splits, lines, names[: MOST_PANELS if searched else 1], searched)

    @property
    def legend_inches(self) -> float:
        """Width that long names of lines need beside the panels."""
        names = [] if self.searched else [name for found in self.lines.values() for name in found]
        return 0.08 * max(0, max(map(len, names), default=0) - 14)


def _without_compared(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """Rows without the plain models and baselines of other rows, which are level lines."""
    found = {(r.split, s) for r in rows if r.k for s in (r.plain, r.baseline)}
    return [row for row in rows if row.k or (row.split, row.score) not in found]


def _drawn(rows: Sequence[SweepRow]) -> list[str]:
    """Names of the varying settings: numbers first, then by number of values; k if none varies."""
    names = [*varying(rows), "k"]
    axes = [Axis.of(rows, name) for name in names if name != "seed"]
    axes = [axis for axis in axes if len(axis.values) > 1]
    ordered = sorted(axes, key=lambda a: (not a.is_number, a.name != "k", -len(a.values)))
    return [axis.name for axis in ordered] or ["k" if any(r.k for r in rows) else "model"]


def _lines(rows: Sequence[SweepRow], names: Sequence[str]) -> dict[str, list[SweepRow]]:
    """Rows by line label: their values of all names but the first, which is x."""
    found: dict[str, list[SweepRow]] = defaultdict(list)
    for row in rows:
        label = ", ".join(_worded(row, name) for name in names[1:])
        found[label or row.retriever].append(row)
    return found


def plot_sweep(rows: Sequence[SweepRow], path: Path, *, title: str) -> None:
    """Writes bits per byte against the varying settings as a PNG or an SVG, a row for each split.

    If few settings vary, x is the setting with the most values and the others make lines. With one
    seed, bars are the paired interval of RETRO[ON] minus the plain model (or the baseline), drawn
    around the value of this model: a bar clear of its line is a difference beyond chance. With
    several seeds, lines go through means, bars are intervals over seeds, and dots are seeds. In a
    search (too many lines, or one point for each line) every setting has a panel of points.
    """
    from matplotlib.figure import Figure

    plan = SweepPlan.of(rows)
    columns = len(plan.panels)
    size = (max(7.2, 3.4 * columns) + plan.legend_inches, 1.2 + 3.4 * len(plan.splits))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(plan.splits), columns, squeeze=False, sharey="row")
    for (split, found), across in zip(plan.splits.items(), panels, strict=True):
        drawn: list[Axes] = []
        for axes, name in zip(across, plan.panels, strict=True):
            axis = Axis.of(found, name)
            if plan.searched and not axis.values:  # no run of this split has the setting
                axes.remove()
                continue
            if plan.searched:
                _draw_points(axes, found, axis)
            else:
                _draw_lines(axes, plan.lines[split], axis)
            _draw_compared(axes, found)
            axis.format_axes(axes)
            tidy(axes)
            drawn.append(axes)
        across[0].set_ylabel(f"{split} split: bits per byte\n(lower is better)")
        _add_legend(drawn)
    panels[0][0].set_title(_note(rows), loc="left", fontsize=9.5, color=SOFT)
    save(figure, path, title)


def _add_legend(panels: Sequence[Axes]) -> None:
    """One legend beside the last panel, of all panels: not each of them shows every row."""
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if found:
        panels[-1].legend(found.values(), found, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_points(axes: Axes, rows: Sequence[SweepRow], axis: Axis) -> None:
    """A point for each run, the best one highlighted."""
    best = min(rows, key=lambda row: row.score.bpb)
    for row in rows:
        x = axis.at(row, 0.0)
        if x is not None:
            leads = row is best
            style: dict[str, Any] = {"marker": "*", "s": 130} if leads else {"marker": "o", "s": 26}
            colour, label = COLOURS[1 if leads else 0], "best" if leads else None
            axes.scatter([x], [row.score.bpb], color=colour, label=label, zorder=5, **style)


def _draw_lines(axes: Axes, lines: dict[str, list[SweepRow]], axis: Axis) -> None:
    groups = {label: by_settings(rows) for label, rows in lines.items()}
    seeds = any(len(group.rows) > 1 for found in groups.values() for group in found)
    for number, (label, found) in enumerate(groups.items()):
        shift = 0.0 if len(groups) == 1 else 2 * number / (len(groups) - 1) - 1
        placed = [(x, group) for group in found if (x := axis.at(group.rows[0], shift)) is not None]
        if placed:
            _draw_series(axes, label, sorted(placed, key=lambda pair: pair[0]), number, seeds)
        for group in found:
            if axis.at(group.rows[0], shift) is None:
                colour, name = COLOURS[number % len(COLOURS)], f"{label} (no neighbours)"
                axes.axhline(group.bpb.mean, color=colour, linestyle=":", label=name, zorder=2)


def _draw_series(
    axes: Axes, label: str, placed: list[tuple[float, SeedGroup]], number: int, seeds: bool
) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    axes.plot(
        [x for x, _ in placed],
        [group.bpb.mean for _, group in placed],
        color=colour,
        marker=marker,
        label=label,
        linewidth=1.8,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=4,
    )
    read = [(x, group.memory.mean) for x, group in placed if group.memory is not None]
    if read:
        style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": ":"}
        axes.plot(*zip(*read, strict=True), label=with_memory(label), zorder=4, **style)
    for x, group in placed:
        if len(group.rows) > 1:
            dots = [row.score.bpb for row in group.rows]
            axes.scatter([x] * len(dots), dots, s=9, color=colour, alpha=0.6, zorder=5)
        low, high = bar(group, seeds)
        if low is not None and high is not None:
            axes.vlines(x, low, high, color=colour, alpha=0.55, linewidth=1.6, zorder=3)


def with_memory(label: str) -> str:
    """Label of a line of figures with a memory."""
    return f"{label}, with memory"


def bar(group: SeedGroup, seeds: bool) -> tuple[float | None, float | None]:
    """Ends of a group's bar: the interval over seeds, or over documents if `seeds` is False."""
    if seeds:
        return group.bpb.low, group.bpb.high
    d, base = group.rows[0].difference, group.rows[0].compared
    if base is None or d is None or d.low is None or d.high is None:
        return None, None
    return base.bpb + d.low, base.bpb + d.high


def _draw_compared(axes: Axes, rows: Sequence[SweepRow]) -> None:
    """A line for each reference model; with several seeds, their mean and its interval."""
    for number, (name, found) in enumerate(reference_scores(rows)):
        style = ("-", "--", ":", "-.")[number % 4]
        axes.axhline(found.mean, color=INK, linewidth=1.3, linestyle=style, label=name, zorder=2)
        if found.low is not None and found.high is not None:
            axes.axhspan(found.low, found.high, color=PALE, alpha=0.4, linewidth=0, zorder=1)


def reference_scores(rows: Sequence[SweepRow]) -> list[tuple[str, Spread]]:
    """Labels and bits per byte of the models that a split's rows are compared with.

    Seeds are averaged, unless one seed has several such models: these are separate experiments.
    """
    having = [row for row in rows if row.k and row.compared is not None]
    names = [n for n in _OF_COMPARED if len({getattr(row, n) for row in having}) > 1]
    labelled: dict[str, set[tuple[int, float]]] = defaultdict(set)
    for row in having:
        assert row.compared is not None
        label = ", ".join([row.against, *(_worded(row, n) for n in names)])
        labelled[label].add((row.seed, row.compared.bpb))
    found = []
    for label, of_seeds in sorted(labelled.items()):
        values = sorted(bpb for _, bpb in of_seeds)
        one_each = len({seed for seed, _ in of_seeds}) == len(of_seeds)
        apart = [values] if one_each else [[value] for value in values]
        found += [(label, spread(part)) for part in apart]
    return found


def _note(rows: Sequence[SweepRow]) -> str:
    if any(len(group.rows) > 1 for group in by_settings(rows)):
        return "dots: seeds; lines: their means; vertical bars: t intervals over seeds, if several"
    return "vertical bars: paired interval of the difference from the model compared with"


def _place(row: SweepRow, name: str) -> Any:
    """A row's value of a setting; None for settings of retrieval in a run without retrieval."""
    if not row.k and name in OF_RETRIEVAL and name != "retriever":
        return None
    value = row.k if name == "k" else value_of(row, name)
    return value if _is_number(value) or value is None else str(value)


def _worded(row: SweepRow, name: str) -> str:
    value = row.k if name == "k" else value_of(row, name)
    words = {"chunk_size": f"m={value}", "stride": f"stride {value}", "k": f"k={value}"}
    return words.get(name, f"{name}={short(value)}" if name in row.others else str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

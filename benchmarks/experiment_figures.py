"""Figures and tables of measured experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from experiment_list import EXPERIMENTS, Experiment
from experiment_page import with_table
from matplotlib.figure import Figure

from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.report.plots import INK, SOFT, STYLES, save, tidy
from retro_lab.evaluation.report.table import NONE, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Mapping[str, Mapping[str, Any]]
TITLES = {"all": "all chunks", "leak_free": "at most 8 tokens shared"}


def draw(name: str, points: Points, folder: Path) -> Path:
    """Draws an experiment: all chunks, those without leakage, and the published curve if any."""
    experiment = EXPERIMENTS[name]
    panels = [
        *TITLES.items(),
        *([("published", experiment.source)] if experiment.published else []),
    ]
    wide = 9 if len(panels) == 2 else 11.5
    figure = Figure(figsize=(wide, 3.8), layout="constrained")
    for axes, (part, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        if part == "published":
            _curve(axes, experiment, {v: [y, y, y] for v, y in experiment.published.items()}, "off")
        else:
            for condition in experiment.shown:
                rows = {
                    value: point["minus_plain"][condition][part] for value, point in points.items()
                }
                _curve(axes, experiment, rows, condition)
        axes.set_title(title, fontsize=10, loc="left", color=INK)
        tidy(axes)
        _zero(axes, experiment)
    first = figure.axes[0]
    if len(experiment.shown) > 1:
        first.legend(fontsize=9)
    unit = "bits per byte minus plain (lower is better)"
    (figure.supxlabel if not experiment.numeric else figure.supylabel)(unit, fontsize=9, color=INK)
    if experiment.numeric:
        figure.supxlabel(experiment.axis, fontsize=9, color=INK)
    path = folder / f"experiment_{name}.png"
    save(figure, path, f"{name.capitalize()}: {experiment.axis}", 11)
    return path


def _curve(
    axes: Axes, experiment: Experiment, rows: Mapping[str, Sequence[float]], condition: str
) -> None:
    """A line over numbers, or a row of points over names.

    Args:
        rows: by value, a difference and the ends of its interval.
    """
    colour = STYLES.get(condition, STYLES["oracle"])["color"]
    middle, low, high = (np.array([row[i] for row in rows.values()], np.float64) for i in range(3))
    if not experiment.numeric:
        at = np.arange(len(rows))[::-1]
        axes.hlines(at, low, high, color=colour, linewidth=2, alpha=0.5)
        axes.plot(middle, at, "o", color=colour, label=label(condition))
        axes.set_yticks(at, list(rows), fontsize=8.5)
        return
    at = [float(value) for value in rows]
    axes.plot(at, middle, marker="o", color=colour, label=label(condition))
    axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(at, list(rows), fontsize=8)
    axes.minorticks_off()


def _zero(axes: Axes, experiment: Experiment) -> None:
    line = axes.axhline if experiment.numeric else axes.axvline
    line(0, color=SOFT, linewidth=1)


def table(name: str, points: Points) -> str:
    """The figures of an experiment in Markdown, a row a value."""
    experiment = EXPERIMENTS[name]
    head = [experiment.axis, "seeds", "plain"]
    for condition in experiment.shown:
        head += [f"{label(condition)} - plain, {title}" for title in TITLES.values()]
    rows = []
    for value, point in points.items():
        row = [value, f"{len(point['seeds'])}", f"{point['bpb']['plain']:.4f}"]
        for condition in experiment.shown:
            row += [_text(point["minus_plain"][condition][part]) for part in TITLES]
        rows.append(row)
    if set(experiment.published) & set(points):
        head.append(experiment.source)
        for row in rows:
            found = experiment.published.get(row[0])
            row.append(NONE if found is None else f"{found:+.3f}")
    return Table(head, rows).markdown()


def _text(difference: Sequence[float | None]) -> str:
    middle, low, high, _ = difference
    ends = "" if low is None or high is None else f" ({low:+.4f}..{high:+.4f})"
    return NONE if middle is None else f"{middle:+.4f}{ends}"


def with_tables(page: str, known: Mapping[str, Points]) -> str:
    """A page of documentation, the tables between its markers replaced by those of the record."""
    for name, points in known.items():
        page = with_table(page, name, table(name, points))
    return page

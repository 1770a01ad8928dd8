"""Small multiples: validation bits per byte of RETRO on and off while retrieval is learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..measure.conditions import label
from .plots import INK, SOFT, STYLES, save, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 5
MARGIN = 0.08  # of the drawn range, above and below


@dataclass(frozen=True)
class Curve:
    """One way to train, over its seeds.

    Attributes:
        seeds: of the rows.
        tokens: [P] trained on with retrieval, ascending.
        bpb: by condition, on and off, [seeds, P].
        baseline: [seeds] of each seed's baseline on the same windows; None where there is none.
        note: a few words under the name.
    """

    seeds: Sequence[int]
    tokens: NDArray[np.int64]
    bpb: Mapping[str, NDArray[np.float64]]
    baseline: NDArray[np.float64] | None
    note: str

    def of(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """[P], ON's mean over those of these seeds that it has; over all if it has none."""
        rows = [row for row, seed in enumerate(self.seeds) if seed in seeds]
        return self.bpb["on"][rows or slice(None)].mean(axis=0)

    @property
    def level(self) -> float | None:
        """The baseline's mean over seeds."""
        return None if self.baseline is None else float(self.baseline.mean())

    def centred(self, condition: str) -> NDArray[np.float64]:
        """[seeds, P], each seed moved so that its baseline lies at the mean of all: what is left
        of the spread is that of the difference from the baseline.
        """
        values = self.bpb[condition]
        if self.baseline is None:
            return values
        return values - self.baseline[:, None] + self.baseline.mean()


def plot_ablations(
    curves: Mapping[str, Curve], path: Path, *, title: str, reference: str | None = None
) -> None:
    """Writes a panel a recipe as a PNG: lines are means over seeds, bands reach from the lowest to
    the highest seed, each measured from its own baseline; the horizontal line is the baseline.

    Args:
        curves: by name, in the order of the panels.
        title: what was trained on what.
        reference: the recipe whose ON, of a panel's own seeds, is drawn thin in every panel.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(max(2.3 * columns, 6.4), 2.0 * rows + 1.1), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    low, high = _range(curves)
    for number, axes in enumerate(panels.flat):
        if number >= len(curves):
            axes.set_axis_off()
            continue
        name, curve = list(curves.items())[number]
        _draw(axes, curve, None if name == reference else curves.get(reference or ""), reference)
        axes.set_title(f"{name}\n", loc="left", fontsize=9, fontweight="bold", color=INK)
        axes.text(0, 1.03, curve.note, transform=axes.transAxes, fontsize=7.5, color=SOFT)
        axes.set_ylim(low, high)
        tidy(axes)
        axes.tick_params(labelsize=7.5)
        if number + columns >= len(curves):
            axes.set_xlabel("million tokens\nwith retrieval", fontsize=8, color=INK)
    handles = {
        text: line
        for axes in panels.flat
        for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=8.5,
    )
    figure.supylabel("validation bits per byte (lower is better)", fontsize=9, color=INK)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold", color=INK)
    save(figure, path)


def _draw(axes: Axes, curve: Curve, other: Curve | None, name: str | None) -> None:
    millions = curve.tokens / 1e6
    if other is not None:
        within = other.tokens <= curve.tokens[-1]
        values = other.of(curve.seeds)[within]
        text = f"{label('on')} of {name}"
        axes.plot(other.tokens[within] / 1e6, values, color="#9aa0a6", linewidth=1.1, label=text)
    if curve.level is not None:
        style = STYLES["baseline"]
        axes.axhline(curve.level, color=style["color"], linewidth=1.1, label=label("baseline"))
    for condition in curve.bpb:
        values = curve.centred(condition)
        style = STYLES[condition] | {"markersize": 3, "label": label(condition)}
        axes.fill_between(
            millions,
            values.min(axis=0),
            values.max(axis=0),
            color=style["color"],
            alpha=0.25,
            linewidth=0,
        )
        axes.plot(millions, values.mean(axis=0), **style)
    axes.set_xlim(0, millions[-1] * 1.04)
    ticks = [0, _two_digits(millions[-1] / 2), _two_digits(millions[-1])]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _range(curves: Mapping[str, Curve]) -> tuple[float, float]:
    """Shared limits; from scratch, what lies high above all baselines at first is cut off."""
    drawn = [c.centred(condition) for c in curves.values() for condition in c.bpb]
    late = [values[:, values.shape[1] // 2 :] for values in drawn]
    levels = [c.level for c in curves.values() if c.level is not None]
    shown = np.concatenate([np.array(levels), *(values.ravel() for values in late)])
    margin = MARGIN * (shown.max() - shown.min())
    return float(shown.min() - margin), float(shown.max() + margin)


def _two_digits(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value))) if value > 0 else 0.0

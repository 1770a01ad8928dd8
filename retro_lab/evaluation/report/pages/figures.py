"""Figures of a page as data, drawn in the browser by `static/figures.js`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...measure.conditions import label
from ...measure.leakage import Leakage
from ..curves import drawn_curves, drawn_differences
from ..reference_words import in_words

_COLOURS = {
    "on": 0,
    "plain": 1,
    "oracle": 2,
    "random": 3,
    "off": 4,
    "filtered": 5,
    "shuffled": 6,
    "baseline": 7,
}
_DIGITS = 6

Values = Sequence[float | None]


@dataclass(frozen=True)
class Series:
    """A line of a figure.

    Attributes:
        values: one for each x; None leaves a gap.
        colour: number of a colour of the style sheet, 0 to 7.
        low: lower ends of intervals; None for a line without.
        high: upper ends.
        band: draw the intervals as an area, else as bars.
        line: connect the points.
        points: mark the points.
        dash: lengths of dashes and gaps; empty for a solid line.
    """

    label: str
    values: Values
    colour: int
    low: Values | None = None
    high: Values | None = None
    band: bool = False
    line: bool = True
    points: bool = True
    dash: Sequence[int] = ()


@dataclass(frozen=True)
class Figure:
    """A figure with one x axis and one y axis.

    Attributes:
        x: ascending.
        ticks: names of the places on the x axis; None for numbers.
        log: logarithmic x axis.
        note: below the figure.
    """

    title: str
    x: Sequence[float]
    x_name: str
    y_name: str
    series: Sequence[Series]
    ticks: Sequence[str] | None = None
    log: bool = False
    note: str = ""

    def spec(self) -> dict[str, Any]:
        """The figure as JSON values, rounded to six digits."""
        return {
            "x": _rounded(self.x),
            "x_name": self.x_name,
            "y_name": self.y_name,
            "ticks": self.ticks,
            "log": self.log,
            "series": [_series(one) for one in self.series],
        }


def _series(one: Series) -> dict[str, Any]:
    return {
        "label": one.label,
        "values": _rounded(one.values),
        "colour": one.colour,
        "low": one.low and _rounded(one.low),
        "high": one.high and _rounded(one.high),
        "band": one.band,
        "line": one.line,
        "points": one.points,
        "dash": list(one.dash),
    }


def leakage_figures(leakage: Leakage) -> list[Figure]:
    """bpb(alpha) of all conditions, and the difference of RETRO[ON]; empty without overlap."""
    if leakage.reference is None:
        return []
    alpha = "largest r(C) kept"
    curves = [
        Series(curve.label, [p.bpb for p in curve.points], _COLOURS.get(curve.name, 5))
        for curve in drawn_curves(leakage)
    ]
    title = f"Bits per byte on chunks that share at most r(C) with {in_words(leakage.reference)}"
    found = [Figure(title, leakage.alphas, alpha, "bits per byte", curves)]
    other, differences = drawn_differences(leakage)
    if differences:
        gain = Series(
            f"RETRO[ON] minus {label(other)}",
            [d.delta_bpb for d in differences],
            0,
            [d.low for d in differences],
            [d.high for d in differences],
            band=True,
        )
        zero = Series("no difference", [0.0] * len(differences), 7, points=False, dash=(4, 4))
        percent = f"{100 * leakage.bootstrap.confidence:g} %"
        found.append(
            Figure(
                f"The same as a difference from {label(other)}; less than zero is a gain",
                [d.alpha for d in differences],
                alpha,
                "bits per byte",
                [gain, zero],
                note=f"The area is the {percent} paired interval over documents.",
            )
        )
    return found


def _rounded(values: Values) -> list[float | None]:
    return [
        None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")
        for value in values
    ]

"""The figure of the leak experiment: changes of the score by dose, and shifts of r(C)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..measure.injection import BINS, FIRST, INJECTED, SETS, Injection
from .injection_verdict import FLAT_SETS, percent
from .plots import COLOURS, INK, MARKERS, PALE, SOFT, save, tidy
from .reference_words import in_words
from .verdict import UNMOVED_BPB

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAKED_SETS = (INJECTED, FIRST)
SPREAD = 0.07  # horizontal distance of the lines at one dose, so that bars do not overlap
LEGEND = 0.35  # share of the y range kept free for the legend


def plot_injection(injection: Injection, path: Path, *, title: str) -> None:
    """Writes the figure as a PNG or an SVG.

    Panels: the change on leaked text, the change on other text, and r(C) of the injected chunks
    before and after planting.

    Args:
        title: names of model and corpus.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 9.2), layout="constrained")
    leaked, flat, overlap = figure.subplots(3, 1, gridspec_kw={"height_ratios": [2.2, 2.6, 1.8]})
    _draw_changes(leaked, injection, LEAKED_SETS, 0)
    leaked.legend(loc="lower left")
    leaked.set_title("text that leaked", loc="left", fontsize=9.5, color=SOFT)
    flat.axhspan(-UNMOVED_BPB, UNMOVED_BPB, color=PALE, alpha=0.5, linewidth=0)
    _draw_changes(flat, injection, FLAT_SETS, len(LEAKED_SETS))
    low, high = flat.get_ylim()
    flat.set_ylim(low, high + LEGEND * (high - low))
    flat.legend(loc="upper left", ncols=2)
    note = f"text that did not, or is filtered; the band is ±{UNMOVED_BPB:g}, another scale"
    flat.set_title(note, loc="left", fontsize=9.5, color=SOFT)
    confidence = f"{100 * injection.bootstrap.confidence:g} %"
    flat.set_xlabel(f"share of the first half, documents planted; bars: {confidence} intervals")
    _draw_overlap(overlap, injection)
    save(figure, path, title)


def _draw_changes(axes: Axes, injection: Injection, names: tuple[str, ...], first: int) -> None:
    """A line for each set: RETRO[ON] under each dose minus with nothing planted, with intervals."""
    axes.axhline(0.0, color=INK, linewidth=1.0)
    for number, name in enumerate(names):
        changes = [dose.sets[name].change for dose in injection.doses]
        xs = [x + SPREAD * (number - (len(names) - 1) / 2) for x in range(len(changes))]
        style: dict[str, Any] = {
            "color": COLOURS[(first + number) % len(COLOURS)],
            "marker": MARKERS[(first + number) % len(MARKERS)],
        }
        deltas = [math.nan if c.delta_bpb is None else c.delta_bpb for c in changes]
        axes.plot(xs, deltas, label=SETS[name], linewidth=1.8, markersize=5.5, **style)
        for x, change in zip(xs, changes, strict=True):
            if change.low is not None and change.high is not None:
                axes.vlines(x, change.low, change.high, color=style["color"], linewidth=1.6)
    doses = [f"{percent(d.share)}\n{len(d.planted):,} planted" for d in injection.doses]
    axes.set_xticks(range(len(doses)), doses)
    axes.set_xlim(-0.4, len(doses) - 0.6)
    axes.set_ylabel("RETRO[ON] minus 0 %\n(bits per byte)")
    tidy(axes)


def _draw_overlap(axes: Axes, injection: Injection) -> None:
    """Histograms of r(C) of the chunks injected by the last dose, before and after planting."""
    last = injection.doses[-1]
    total = sum(last.histogram) or 1
    edges = [place / BINS for place in range(BINS + 1)]
    for counts, name, colour in (
        (last.histogram_before, "nothing planted", SOFT),
        (last.histogram, f"{percent(last.share)} planted", COLOURS[0]),
    ):
        shares = [100 * count / total for count in counts]
        axes.stairs(shares, edges, fill=True, alpha=0.35, color=colour, label=name)
        axes.stairs(shares, edges, color=colour, linewidth=1.4)
    axes.set_xlabel(f"r(C) with {in_words(injection.reference)}")
    axes.set_ylabel("chunks of injected\ndocuments (%)")
    axes.legend(loc="upper center")
    tidy(axes)

"""The leakage figure bpb(alpha), like the paper's Figure 6, and helpers for all figures.

Figures use matplotlib's object interface, so no global state changes. Files carry no date or
version, so the same results give the same bytes. Colours are Okabe and Ito's colour-blind safe
palette; markers differ as well.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retro_lab.config.files import replacing

from ..measure.conditions import label
from ..measure.leakage import Difference, Leakage
from .curves import drawn_curves, drawn_differences
from .reference_words import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, SOFT, PALE = "#222222", "#666666", "#c9cdd2"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#222222")
MARKERS = "osD^vPX*"
_LINES = {  # colour, marker, line style, line width, z-order
    "on": ("#0072B2", "o", "-", 2.2, 5),
    "baseline": (INK, "s", "-", 1.3, 2),
    "plain": ("#D55E00", "s", "-", 1.8, 4),
    "off": ("#E69F00", "^", "--", 1.4, 3),
    "random": ("#CC79A7", "D", ":", 1.6, 2),
    "shuffled": ("#7F3C8D", "v", ":", 1.6, 2),
    "filtered": ("#56B4E9", "X", "--", 1.6, 4),
    "oracle": ("#009E73", "P", "-.", 1.4, 1),
    "": (SOFT, "X", "-.", 1.4, 1),
}
_KEYWORDS = ("color", "marker", "linestyle", "linewidth", "zorder")
STYLES = {name: dict(zip(_KEYWORDS, line, strict=True)) for name, line in _LINES.items()}
"""Line styles by condition; conditions not listed use the style of the empty name."""


def plot_leakage(leakage: Leakage, path: Path, *, corpus: str, model: str, split: str) -> None:
    """Writes bpb(alpha), the paired difference of RETRO[ON] and the text kept, as a PNG.

    Args:
        corpus: name of the corpus, for the title.
        model: name of the model, for the title.
        split: name of the scored split, for the title.
    """
    figure = leakage_figure(leakage, model)
    save(figure, path, f"Bits per byte under a leakage filter: {corpus}, {split}")


def leakage_figure(leakage: Leakage, model: str) -> Figure:
    """The figure that `plot_leakage` writes: no panel for a difference that was not measured."""
    from matplotlib.figure import Figure

    other, found = drawn_differences(leakage)
    heights = [3.2, *([2.0] if found else []), 1.0]
    figure = Figure(figsize=(7.2, 1.2 * sum(heights)), layout="constrained")
    curves, *difference, kept = figure.subplots(
        len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights}
    )
    _draw_curves(curves, leakage)
    for axes in difference:
        _draw_difference(axes, found, label(other), leakage.bootstrap.confidence)
    _draw_kept(kept, leakage)
    # At most about ten ticks, counted back from alpha = 1 so that 1 is always labelled.
    ticks = leakage.alphas[:: -math.ceil(len(leakage.alphas) / 10)]
    kept.set_xticks(ticks, [f"{alpha:g}" for alpha in ticks])
    kept.set_xlabel(r"$\alpha$: largest overlap r(C) of the chunks kept (share of the chunk)")
    documents = next(iter(leakage.curves.values()))[-1].documents
    curves.set_title(
        f"model {model}, {documents:,} documents; overlap with {in_words(leakage.reference)}",
        loc="left",
        fontsize=9.5,
        color=SOFT,
    )
    return figure


def _draw_curves(axes: Axes, leakage: Leakage) -> None:
    for curve in drawn_curves(leakage):
        axes.plot(
            [p.alpha for p in curve.points],
            [math.nan if p.bpb is None else p.bpb for p in curve.points],
            label=curve.label,
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            **STYLES.get(curve.name, STYLES[""]),
        )
    axes.set_ylabel("bits per byte (lower is better)")
    axes.legend(loc="best")
    tidy(axes)


def _draw_difference(axes: Axes, found: list[Difference], other: str, confidence: float) -> None:
    axes.axhline(0.0, color=INK, linewidth=1.0)
    axes.set_ylabel(f"on minus {other}\n(bits per byte)")
    tidy(axes)
    alphas = [d.alpha for d in found]
    low = [math.nan if d.low is None else d.low for d in found]
    high = [math.nan if d.high is None else d.high for d in found]
    percent = f"{100 * confidence:g} % paired bootstrap over documents"
    colour = STYLES["on"]["color"]
    axes.fill_between(alphas, low, high, color=colour, alpha=0.2, linewidth=0, label=percent)
    delta = [d.delta_bpb for d in found if d.delta_bpb is not None]
    axes.plot(alphas, delta, color=colour, marker="o", linewidth=1.8, markersize=5)
    axes.legend(loc="best")


def _draw_kept(axes: Axes, leakage: Leakage) -> None:
    points = next(iter(leakage.curves.values()))
    total = points[-1].bytes or 1
    gaps = [b - a for a, b in zip(leakage.alphas, leakage.alphas[1:], strict=False)]
    width = max(0.7 * min(gaps, default=0.2), 0.012)
    shares = [100 * p.bytes / total for p in points]
    bars = axes.bar([p.alpha for p in points], shares, width=width, color=PALE)
    texts = [f"{share:.0f}" if share >= 1 or not share else f"{share:.1g}" for share in shares]
    axes.bar_label(bars, texts, fontsize=8, color=SOFT, padding=1)
    axes.set_ylim(0, 125)
    axes.set_yticks([0, 50, 100])
    axes.set_ylabel("text kept\n(% of bytes)")
    tidy(axes)
    axes.grid(visible=False)


def tidy(axes: Axes) -> None:
    """Sets a light grid and removes the frame."""
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=INK, labelsize=9)


def save(figure: Figure, path: Path, title: str, size: int = 12) -> None:
    """Writes a PNG or an SVG under a title, atomically; the same figure gives the same bytes."""
    from matplotlib import rc_context

    figure.suptitle(title, x=0.02, ha="left", fontsize=size, fontweight="bold", color=INK)
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            legend.set_frame_on(False)
            for text in legend.get_texts():
                text.set_fontsize(9)
    kind = path.suffix.removeprefix(".")
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    # Without a salt the ids in an SVG are random.
    with rc_context({"svg.hashsalt": path.stem}), replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=kind, metadata=metadata)

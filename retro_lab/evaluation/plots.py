"""Figures for a report: bpb(alpha) like the paper's Figure 6, and sweeps.

The figures use the object interface, so nothing global changes, and carry no date or version, so
the same results give the same bytes. Colours are Okabe and Ito's, told apart by every eye;
markers differ as well.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retro_lab.config.files import replacing

from .conditions import compared_with, in_order, label
from .leakage import Leakage
from .reference_words import in_words
from .seeds import SeedGroup, Spread, by_settings, spread
from .sweep import SweepRow, in_sweep_order, varying

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, SOFT, PALE = "#222222", "#666666", "#c9cdd2"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#222222")
MARKERS = "osD^vPX*"
STYLES = {
    "on": {"color": "#0072B2", "marker": "o", "linestyle": "-", "linewidth": 2.2, "zorder": 5},
    "baseline": {"color": INK, "marker": "s", "linestyle": "-", "linewidth": 1.3, "zorder": 2},
    "plain": {"color": "#D55E00", "marker": "s", "linestyle": "-", "linewidth": 1.8, "zorder": 4},
    "off": {"color": "#E69F00", "marker": "^", "linestyle": "--", "linewidth": 1.4, "zorder": 3},
    "random": {"color": "#CC79A7", "marker": "D", "linestyle": ":", "linewidth": 1.6, "zorder": 2},
    "shuffled": {
        "color": "#7F3C8D",
        "marker": "v",
        "linestyle": ":",
        "linewidth": 1.6,
        "zorder": 2,
    },
    "filtered": {
        "color": "#56B4E9",
        "marker": "X",
        "linestyle": "--",
        "linewidth": 1.6,
        "zorder": 4,
    },
    "oracle": {"color": "#009E73", "marker": "P", "linestyle": "-.", "linewidth": 1.4, "zorder": 1},
}
_OF_BASELINE = ("model", "chunk_size", "corpus", "split", "stride")
OTHER = {"color": SOFT, "marker": "X", "linestyle": "-.", "linewidth": 1.4, "zorder": 1}


def plot_leakage(leakage: Leakage, path: Path, *, corpus: str, model: str, split: str) -> None:
    """Write bpb(alpha), on minus baseline with its interval, and the text kept, as a PNG.

    Args:
        corpus: name of the corpus, for the title.
        model: name of the model, for the title.
        split: name of the scored split, for the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 7.4), layout="constrained")
    curves, difference, kept = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 2.0, 1.0]}
    )
    _draw_curves(curves, leakage)
    _draw_difference(difference, leakage)
    _draw_kept(kept, leakage)
    # Of many alphas every n-th is written, counted back from 1, so that 1 always is.
    ticks = leakage.alphas[:: -math.ceil(len(leakage.alphas) / 10)]
    kept.set_xticks(ticks, [f"{alpha:g}" for alpha in ticks])
    kept.set_xlabel(r"$\alpha$: largest overlap r(C) of the chunks kept (share of the chunk)")
    title = f"Bits per byte under a leakage filter: {corpus}, {split}"
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold", color=INK)
    documents = next(iter(leakage.curves.values()))[-1].documents
    curves.set_title(
        f"model {model}, {documents:,} documents; overlap with {in_words(leakage.reference)}",
        loc="left",
        fontsize=9.5,
        color=SOFT,
    )
    save(figure, path)


def _draw_curves(axes: Axes, leakage: Leakage) -> None:
    for condition in in_order(leakage.curves):
        points = leakage.curves[condition]
        axes.plot(
            [p.alpha for p in points],
            [math.nan if p.bpb is None else p.bpb for p in points],
            label=label(condition),
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            **STYLES.get(condition, OTHER),
        )
    axes.set_ylabel("bits per byte (lower is better)")
    axes.legend(loc="best")
    tidy(axes)


def _draw_difference(axes: Axes, leakage: Leakage) -> None:
    other = compared_with(leakage.curves) or "baseline"
    found = [
        d for d in leakage.differences if (d.a, d.b) == ("on", other) and d.delta_bpb is not None
    ]
    axes.axhline(0.0, color=INK, linewidth=1.0)
    axes.set_ylabel(f"on minus {label(other)}\n(bits per byte)")
    tidy(axes)
    if not found:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=SOFT)
        return
    alphas = [d.alpha for d in found]
    delta = [d.delta_bpb for d in found if d.delta_bpb is not None]
    low = [math.nan if d.low is None else d.low for d in found]
    high = [math.nan if d.high is None else d.high for d in found]
    percent = f"{100 * leakage.bootstrap.confidence:g} % paired bootstrap over documents"
    colour = STYLES["on"]["color"]
    axes.fill_between(alphas, low, high, color=colour, alpha=0.2, linewidth=0, label=percent)
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


def plot_sweep(rows: Sequence[SweepRow], path: Path, *, title: str) -> None:
    """Write bits per byte against k, a line a retriever, as a PNG or an SVG.

    With one seed, bars are the paired interval of on minus baseline, drawn from the baseline's own
    value: a bar that stays clear of the baseline's line is a difference that chance does not
    explain. Where a point has several, a line goes through their means, bars are intervals over
    seeds, of which a point with one has none, and each seed is a small dot.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    rows = in_sweep_order(rows)
    names = [name for name in varying(rows) if name != "seed"]
    series: dict[str, list[SweepRow]] = defaultdict(list)
    for row in rows:
        if row.k:
            series[", ".join(_value(row, name) for name in names)].append(row)
    ks = sorted({row.k for row in rows if row.k}) or [1]
    groups = {name: by_settings(points) for name, points in series.items()}
    seeds = any(len(group.rows) > 1 for found in groups.values() for group in found)
    for number, name in enumerate(groups):
        # Lines are set beside each other a little, so that bars at one k stay apart.
        shift = 2 ** (0.045 * (number - (len(series) - 1) / 2))
        _draw_series(axes, name, groups[name], number, shift, seeds)
    _draw_baselines(axes, rows)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.set_xlim(ks[0] / 1.25, ks[-1] * 1.25)
    axes.set_xlabel("k: neighbours a chunk reads")
    axes.set_ylabel("bits per byte (lower is better)")
    tidy(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold", color=INK)
    note = "vertical bars: paired interval of the difference from the baseline"
    if seeds:
        note = "dots: seeds; lines: their means; vertical bars: t intervals over seeds, if several"
    axes.set_title(note, loc="left", fontsize=9.5, color=SOFT)
    save(figure, path)


def _draw_series(
    axes: Axes, name: str, groups: list[SeedGroup], number: int, shift: float, seeds: bool
) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    xs = [group.rows[0].k * shift for group in groups]
    axes.plot(
        xs,
        [group.bpb.mean for group in groups],
        color=colour,
        marker=marker,
        label=name,
        linewidth=1.8,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=4,
    )
    for x, group in zip(xs, groups, strict=True):
        if len(group.rows) > 1:
            dots = [row.score.bpb for row in group.rows]
            axes.scatter([x] * len(dots), dots, s=9, color=colour, alpha=0.6, zorder=5)
        low, high = bar(group, seeds)
        if low is not None and high is not None:
            axes.vlines(x, low, high, color=colour, alpha=0.55, linewidth=1.6, zorder=3)


def bar(group: SeedGroup, seeds: bool) -> tuple[float | None, float | None]:
    """Ends of a group's bar, of one kind in a plot: over seeds, or over documents of one seed."""
    if seeds:
        return group.bpb.low, group.bpb.high
    d, base = group.rows[0].difference, group.rows[0].baseline
    if base is None or d is None or d.low is None or d.high is None:
        return None, None
    return base.bpb + d.low, base.bpb + d.high


def _draw_baselines(axes: Axes, rows: list[SweepRow]) -> None:
    """A line for each baseline there is; with several seeds through their mean, in its interval."""
    for number, (name, found) in enumerate(baselines(rows)):
        style = ("-", "--", ":", "-.")[number % 4]
        axes.axhline(found.mean, color=INK, linewidth=1.3, linestyle=style, label=name, zorder=2)
        if found.low is not None and found.high is not None:
            axes.axhspan(found.low, found.high, color=PALE, alpha=0.4, linewidth=0, zorder=1)


def baselines(rows: Sequence[SweepRow]) -> list[tuple[str, Spread]]:
    """Bits per byte of the rows' baselines, and labels that tell sizes and scored texts apart.

    Seeds are taken together unless one of them has several baselines, which then are no seeds of
    one experiment.
    """
    compared = [row for row in rows if row.baseline is not None]
    names = [n for n in _OF_BASELINE if len({getattr(row, n) for row in compared}) > 1]
    labelled: dict[str, set[tuple[int, float]]] = defaultdict(set)
    for row in compared:
        assert row.baseline is not None
        name = ", ".join(["baseline", *(_value(row, n) for n in names)])
        labelled[name].add((row.seed, row.baseline.bpb))
    found = []
    for name, of_seeds in sorted(labelled.items()):
        values = sorted(bpb for _, bpb in of_seeds)
        one_each = len({seed for seed, _ in of_seeds}) == len(of_seeds)
        parts = [values] if one_each else [[value] for value in values]
        found += [(name, spread(part)) for part in parts]
    return found


def _value(row: SweepRow, axis: str) -> str:
    value = getattr(row, axis)
    return {"chunk_size": f"m={value}", "stride": f"stride {value}"}.get(axis, str(value))


def tidy(axes: Axes) -> None:
    """Light grid, no frame."""
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=INK, labelsize=9)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG or an SVG atomically; the same figure gives the same bytes."""
    from matplotlib import rc_context

    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            legend.set_frame_on(False)
            for text in legend.get_texts():
                text.set_fontsize(9)
    kind = path.suffix.removeprefix(".")
    unsaid: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    # Without a salt the ids in an SVG are random.
    with rc_context({"svg.hashsalt": path.stem}), replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=kind, metadata=unsaid)

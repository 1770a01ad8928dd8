"""The figure gain.png: the gain by overlap, position, neighbour and document."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..measure.conditions import label
from ..measure.gain import MATCHING_RUN, Correlation, Gain, GainBin
from .plots import COLOURS, INK, SOFT, save, tidy
from .reference_words import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, LOSS = COLOURS[0], COLOURS[1]
ROW = 2.8  # inches


def plot_gain(gain: Gain, path: Path, *, corpus: str, model: str, reference: str | None) -> None:
    """Writes the gain by overlap, position, neighbour and document, as a PNG.

    Args:
        corpus: name of the corpus, for the title.
        model: name of the model, for the title.
        reference: the text that overlap was measured against, as in results.json.
    """
    verb = "gains" if gain.noun == "gain" else "saves"
    title = f"Where {label(gain.a)} {verb} over {label(gain.b)}: {corpus}, {model}"
    save(gain_figure(gain, reference), path, title)


def gain_figure(gain: Gain, reference: str | None) -> Figure:
    """The figure that `plot_gain` writes: no panel for a breakdown that was not measured."""
    from matplotlib.figure import Figure

    greatest, smallest = gain.ends()
    panels = [panel for panel in _panels(gain, reference) if panel.bins]
    layout, heights = _layout(panels)
    documents, inches = 1.0 + 0.22 * (len(greatest) + len(smallest) + 1), ROW * sum(heights) + 0.3
    figure = Figure(figsize=(10.4, inches + documents), layout="constrained")
    # Two subfigures, so that long document names below do not move the panels above.
    above, below = figure.subfigures(2, 1, height_ratios=[inches, documents]).flat  # pyright: ignore[reportAttributeAccessIssue]
    axes = above.subplot_mosaic(layout, height_ratios=heights, width_ratios=[1.1, 1.0])
    for number, panel in enumerate(panels):
        _bins(axes[panel.name], panel)
        if number % 2 == 0:
            axes[panel.name].set_ylabel("bits per byte gained")
    axes[READING].set_axis_off()
    axes[READING].text(
        0.0, 0.85, _READING, va="top", fontsize=9, color=SOFT, transform=axes[READING].transAxes
    )
    _documents(below.subplots(), gain, greatest, smallest)
    return figure


class _Panel(NamedTuple):
    """The bars of one breakdown.

    Attributes:
        counted: what is counted under the bars.
        note: above the bars.
    """

    name: str
    bins: list[GainBin]
    label: str
    colour: str = SOFT
    counted: str = "chunks"
    note: str = ""


def _panels(gain: Gain, reference: str | None) -> list[_Panel]:
    overlap = f"r(C): overlap with {in_words(reference)}"
    score = "retrieval score of the best neighbour read, up to"
    rank = f"rank of the neighbour sharing most, {MATCHING_RUN}+ tokens (several: a tie)"
    position = "number of the chunk in its document (0 reads no neighbours)"
    place = "place of the token in its chunk"
    return [
        _Panel("overlap", gain.by_overlap, overlap, BLUE, note=_spearman(gain.correlation)),
        _Panel("score", gain.by_score, score, BLUE, note=_spearman(gain.score_correlation)),
        _Panel("rank", gain.by_rank, rank, BLUE),
        _Panel("position", gain.by_position, position),
        _Panel("place", gain.by_place, place, counted="tokens"),
    ]


def _layout(panels: list[_Panel]) -> tuple[list[list[str]], list[float]]:
    """Two panels a row and how to read them, which fills an odd row; and the rows' heights."""
    names = [panel.name for panel in panels]
    if len(names) % 2:
        names, rows = [*names, READING], []
    else:
        rows = [[READING, READING]]
    pairs = [names[at : at + 2] for at in range(0, len(names), 2)]
    return [*pairs, *rows], [1.0] * len(pairs) + [0.6] * len(rows)


READING = "how to read"
_READING = """How to read this figure

A bar is the bits per byte that reading neighbours
saves on the text named below it; the line in it is
the paired interval over documents, absent with
fewer than five. Counts stand under the names.

A chunk is predicted with the neighbours of the chunk
before it. Its first token (place 0) is predicted from
that chunk's last position, the first one that reads
them; a document's first chunk reads none."""


def _bins(axes: Axes, panel: _Panel) -> None:
    """A bar for each bin, with its interval and its number of chunks or tokens."""
    bins = panel.bins
    heights = [math.nan if part.bpb is None else part.bpb for part in bins]
    axes.bar(range(len(bins)), heights, width=0.75, color=panel.colour)
    for at, part in enumerate(bins):
        if part.low is not None and part.high is not None:
            axes.vlines(at, part.low, part.high, color=INK, linewidth=1.3)
    # A range such as 0.125 to 0.25 is labelled with its upper bound.
    names = [re.sub(r".* to ", "≤ ", part.name) for part in bins]
    ticks = [f"{name}\n{part.chunks:,}" for name, part in zip(names, bins, strict=True)]
    axes.set_xticks(range(len(bins)), ticks)
    axes.set_xlabel(panel.label)
    axes.set_title(panel.note, loc="left", fontsize=9, color=SOFT)
    axes.axhline(0.0, color=INK, linewidth=1.0)
    tidy(axes)
    axes.tick_params(axis="x", labelsize=7 if len(bins) < 9 else 6, length=0)
    counted = {"transform": axes.transAxes, "ha": "right", "fontsize": 6, "color": SOFT}
    axes.text(-0.01, -0.11, panel.counted, **counted)


def _documents(axes: Axes, gain: Gain, greatest: list[GainBin], smallest: list[GainBin]) -> None:
    """Bars of the documents with the greatest and the smallest gain, in bits."""
    blank = [None] if smallest else []
    rows = [*greatest, *blank, *smallest]
    for at, part in enumerate(rows):
        if part is not None:
            bits = part.gain / math.log(2)
            axes.barh(at, bits, color=BLUE if bits > 0 else LOSS)
    axes.set_yticks(range(len(rows)), [_short(part.name) if part else "..." for part in rows])
    axes.invert_yaxis()
    axes.axvline(0.0, color=INK, linewidth=1.0)
    axes.set_xlabel("bits gained on the whole document")
    count = f"documents with the greatest and the smallest gain, of {gain.total.documents:,}"
    axes.set_title(count, loc="left", fontsize=9.5, color=SOFT)
    tidy(axes)
    axes.grid(visible=False)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.tick_params(axis="y", labelsize=8, length=0)


def _spearman(found: Correlation | None) -> str:
    if found is None or found.rho is None:
        return "correlation not defined"
    return f"Spearman {found.rho:+.2f} over {found.chunks:,} chunks"


def _short(name: str, length: int = 44) -> str:
    """A name shortened in its middle, with dollar signs escaped (they would begin a formula)."""
    half = (length - 3) // 2
    cut = name if len(name) <= length else f"{name[:half]}...{name[-half:]}"
    return cut.replace("$", r"\$")

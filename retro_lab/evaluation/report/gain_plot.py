"""The figure gain.png: the gain by overlap, position, neighbour and document."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..measure.conditions import label
from ..measure.gain import MATCHING_RUN, Correlation, Gain, GainBin
from .plots import COLOURS, INK, SOFT, save, tidy
from .reference_words import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, LOSS = COLOURS[0], COLOURS[1]
ROW = 2.8  # inches


def plot_gain(gain: Gain, path: Path, *, corpus: str, model: str, reference: str | None) -> None:
    """Writes the gain by overlap, position, neighbour and document, as a PNG.

    Args:
        corpus: name of the corpus, for the title.
        model: name of the model, for the title.
        reference: the text that overlap was measured against, as in results.json.
    """
    from matplotlib.figure import Figure

    greatest, smallest = gain.ends()
    documents = 1.0 + 0.22 * (len(greatest) + len(smallest) + 1)
    figure = Figure(figsize=(10.4, 3 * ROW + documents + 0.3), layout="constrained")
    # Two subfigures, so that long document names below do not move the panels above.
    above, below = figure.subfigures(2, 1, height_ratios=[3 * ROW + 0.3, documents]).flat  # pyright: ignore[reportAttributeAccessIssue]
    (overlap, score), (rank, position), (place, words) = above.subplots(
        3, 2, width_ratios=[1.1, 1.0]
    )
    words.set_axis_off()
    _bins(overlap, gain.by_overlap, BLUE, "chunks")
    overlap.set_xlabel(f"r(C): overlap with {in_words(reference)}")
    overlap.set_title(_spearman(gain.correlation), loc="left", fontsize=9, color=SOFT)
    _bins(score, gain.by_score, BLUE, "chunks")
    score.set_xlabel("retrieval score of the best neighbour read, up to")
    score.set_title(_spearman(gain.score_correlation), loc="left", fontsize=9, color=SOFT)
    _bins(rank, gain.by_rank, BLUE, "chunks")
    rank.set_xlabel(f"rank of the neighbour sharing most, {MATCHING_RUN}+ tokens (several: a tie)")
    _bins(position, gain.by_position, SOFT, "chunks")
    position.set_xlabel("number of the chunk in its document (0 reads no neighbours)")
    _bins(place, gain.by_place, SOFT, "tokens", missing="needs eval.tokens=true")
    place.set_xlabel("place of the token in its chunk")
    for axes in (overlap, rank, place):
        axes.set_ylabel("bits per byte gained")
    words.text(0.0, 0.85, _READING, va="top", fontsize=9, color=SOFT, transform=words.transAxes)
    _documents(below.subplots(), gain, greatest, smallest)
    verb = "gains" if gain.noun == "gain" else "saves"
    title = f"Where {label(gain.a)} {verb} over {label(gain.b)}: {corpus}, {model}"
    save(figure, path, title)


_READING = """How to read this figure

A bar is the bits per byte that reading neighbours
saves on the text named below it; the line in it is
the paired interval over documents, absent with
fewer than five. Counts stand under the names.

A chunk is predicted with the neighbours of the chunk
before it. Its first token (place 0) is predicted from
that chunk's last position, the first one that reads
them; a document's first chunk reads none."""


def _bins(
    axes: Axes, bins: list[GainBin], colour: str, what: str, missing: str = "not measured"
) -> None:
    """A bar for each bin, with its interval and its number of chunks or tokens."""
    heights = [math.nan if part.bpb is None else part.bpb for part in bins]
    axes.bar(range(len(bins)), heights, width=0.75, color=colour)
    for at, part in enumerate(bins):
        if part.low is not None and part.high is not None:
            axes.vlines(at, part.low, part.high, color=INK, linewidth=1.3)
    # A range such as 0.125 to 0.25 is labelled with its upper bound.
    names = [re.sub(r".* to ", "≤ ", part.name) for part in bins]
    ticks = [f"{name}\n{part.chunks:,}" for name, part in zip(names, bins, strict=True)]
    axes.set_xticks(range(len(bins)), ticks)
    axes.axhline(0.0, color=INK, linewidth=1.0)
    tidy(axes)
    axes.tick_params(axis="x", labelsize=7 if len(bins) < 9 else 6, length=0)
    if bins:
        axes.text(-0.01, -0.11, what, transform=axes.transAxes, ha="right", fontsize=6, color=SOFT)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, missing, transform=axes.transAxes, ha="center", color=SOFT)


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

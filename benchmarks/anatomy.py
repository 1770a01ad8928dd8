"""Where each use of a database saves bits: by shared text, place, frequency and length of match.

    python evaluate.py run=RUN eval=exact eval.tokens=true eval.without_pointer=true
    python evaluate.py run=RUN eval=rivals eval.tokens=true eval.rivals.which=[knn_lm]
    python benchmarks/anatomy.py RUN
    python benchmarks/anatomy.py --draw

Reads the tokens of the two evaluations. All methods are compared with the plain model on the same
tokens; the figures go into benchmarks/anatomy.json, which `--draw` draws and writes as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from experiment_page import command
from matplotlib.figure import Figure
from numpy.typing import NDArray

from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.measure.statistics import Bootstrap, chunk_intervals
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.evaluation.report.plots import COLOURS, INK, MARKERS, PALE, SOFT, save, tidy
from retro_lab.evaluation.report.table import Table
from retro_lab.run.finished import FinishedRun

RIVALS = {"knn_lm": "kNN-LM over the baseline"}
SHOWN = ("on", "on_without_pointer", "plain_memory", "baseline", *RIVALS)
# Title of each axis, and lower ends of its bins.
BINS = {
    "shared": ("longest run that the chunk shares with training text", (0, 9, 17, 33, 57)),
    "match": ("length of the match that begins at the token", (0, 1, 2, 4, 8, 16)),
    "frequency": ("how often the token stands in the training text", (0, 10, 100, 1000, 10000)),
    "place": ("chunk of the document", (0, 1, 4, 16, 64)),
}

Figures = dict[str, dict[str, dict[str, Any]]]


def measure(run: Path) -> Figures:
    """By axis and bin: the share of bytes, and each method's bits per byte minus plain there."""
    exact = TokenTable.load(run / "evaluations" / "exact" / "tokens.parquet")
    chunks = ChunkTable.load(run / "evaluations" / "exact" / "chunks.parquet")
    nats = dict(exact.nats) | _rivals(run / "evaluations" / "rivals", exact)
    if chunks.overlap is None or exact.longest_match is None:
        raise SystemExit(f"{run} has no exact overlap: evaluate it with eval=exact")
    store = FinishedRun.open(run).graph.own.chunks.data
    trained_on = np.asarray(store.tokens[store.chunks_of("train")]).ravel()
    counts = np.bincount(trained_on, minlength=store.vocab_size)
    by_axis = {
        "shared": chunks.overlap.longest_run[exact.chunk_row],
        "match": exact.longest_match,
        "frequency": counts[exact.token_id],
        "place": chunks.chunk_index[exact.chunk_row],
    }
    document = chunks.document[exact.chunk_row]
    return {
        axis: _by_bin(BINS[axis][1], values, document, exact.bytes, nats)
        for axis, values in by_axis.items()
    }


def _rivals(folder: Path, tokens: TokenTable) -> dict[str, NDArray]:
    """Nats of the rivals' tokens, which are those of the run's own conditions."""
    columns = [f"nats_{name}" for name in RIVALS]
    table = pq.read_table(folder / "rivals_tokens.parquet", columns=["token_id", *columns])
    if not np.array_equal(table["token_id"].to_numpy(), tokens.token_id):
        raise SystemExit(f"{folder} has other tokens than the run's evaluation")
    return {name: table[f"nats_{name}"].to_numpy() for name in RIVALS}


def _by_bin(
    ends: Sequence[int],
    values: NDArray,
    document: NDArray,
    num_bytes: NDArray,
    nats: Mapping[str, NDArray],
) -> dict[str, dict[str, Any]]:
    """Arrays are [T], of all scored tokens."""
    number = np.searchsorted(ends, values, side="right") - 1
    pairs = [(name, "plain") for name in SHOWN]
    found = {}
    for place, text in enumerate(_names(ends)):
        kept = number == place
        here = {name: nats[name][kept] for name in (*SHOWN, "plain")}
        intervals, documents = chunk_intervals(
            document[kept], here, num_bytes[kept], pairs, Bootstrap()
        )
        bits = max(1, int(num_bytes[kept].sum())) * np.log(2)
        found[text] = {
            "bytes": round(float(num_bytes[kept].sum() / num_bytes.sum()), 4),
            "documents": documents,
            "minus_plain": {
                name: [
                    round(float((here[name] - here["plain"]).sum() / bits), 4),
                    *(round(end, 4) for end in intervals[name, "plain"] or ()),
                ]
                for name in SHOWN
            },
        }
    return found


def _names(ends: Sequence[int]) -> list[str]:
    """`0`, `1`, `2-3`, `4+` of the lower ends 0, 1, 2, 4."""
    spans = [f"{low}" if high == low + 1 else f"{low}-{high - 1}" for low, high in pairwise(ends)]
    return [*spans, f"{ends[-1]}+"]


def draw(known: Figures, folder: Path) -> Path:
    """Draws a panel an axis, with the share of bytes below."""
    figure = Figure(figsize=(11.5, 7.6), layout="constrained")
    grid = figure.subplots(4, 2, gridspec_kw={"height_ratios": [3, 0.7, 3, 0.7]})
    for place, (axis, bins) in enumerate(known.items()):
        row, column = 2 * (place // 2), place % 2
        axes, below = grid[row, column], grid[row + 1, column]
        at = np.arange(len(bins))
        for number, name in enumerate(SHOWN):
            rows = [each["minus_plain"][name] for each in bins.values()]
            middle = np.array([each[0] for each in rows])
            ends = np.array([each[1:] if len(each) == 3 else each * 2 for each in rows])
            shift = at + 0.06 * (number - len(SHOWN) / 2)
            style = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 5}
            axes.plot(shift, middle, label=_label(name), **style)
            axes.vlines(shift, ends[:, 0], ends[:, 1], color=COLOURS[number], alpha=0.5)
        axes.axhline(0, color=SOFT, linewidth=1)
        axes.set_title(BINS[axis][0], fontsize=10, loc="left", color=INK)
        axes.set_xticks([])
        tidy(axes)
        shares = [100 * each["bytes"] for each in bins.values()]
        below.bar_label(
            below.bar(at, shares, color=PALE),
            [f"{x:.0f}" if x >= 0.5 else "<1" for x in shares],
            fontsize=8,
        )
        below.set_xticks(at, list(bins), fontsize=8.5)
        below.set_ylim(0, 90)
        below.set_yticks([])
        below.set_ylabel("% of bytes", fontsize=8)
        tidy(below)
    grid[0, 0].legend(fontsize=8, frameon=False)
    figure.supylabel("bits per byte minus plain (lower is better)", fontsize=9, color=INK)
    path = folder / "experiment_anatomy.png"
    save(figure, path, "Anatomy of a gain: the same tokens, by what they are", 11)
    return path


def _label(name: str) -> str:
    return RIVALS.get(name, label(name))


def table(known: Figures) -> str:
    """The figures in Markdown, a row a bin."""
    head = ["", "", "% of bytes", *(f"{_label(name)}" for name in SHOWN)]
    rows = [
        [
            BINS[axis][0] if place == 0 else "",
            text,
            f"{100 * each['bytes']:.0f}",
            *(f"{each['minus_plain'][name][0]:+.3f}" for name in SHOWN),
        ]
        for axis, bins in known.items()
        for place, (text, each) in enumerate(bins.items())
    ]
    return Table(head, rows, names=2).markdown()


if __name__ == "__main__":
    command("anatomy", __doc__, measure, draw, table)

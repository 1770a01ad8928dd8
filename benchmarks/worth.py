"""What a megabyte and a million operations are worth: bits per byte of each use of a database.

    python evaluate.py run=RUN eval=rivals eval.rivals.which=[knn_lm,ralm,ngram,xz]
    python benchmarks/worth.py RUN
    python benchmarks/worth.py --draw

Megabytes are what a method keeps beside a plain model: index, states or counts, the text itself
where it is read, and parameters of its own at four bytes. Operations are those of a forward pass
for a token. kNN-LM's search adds its products of vectors; BM25 and a memory's look-ups in sorted
contexts make next to none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment_page import command
from matplotlib.figure import Figure

from retro_lab.evaluation.report.plots import COLOURS, INK, MARKERS, save, tidy
from retro_lab.evaluation.report.table import NONE, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BYTES = 4  # of a parameter
TOKEN_BYTES = 2  # of a stored token
READ_TEXT = ("on", "ralm_64", "plain_memory")  # these keep the text's tokens beside an index
LEFT_OUT = ("baseline", "memory")
LEAST = 0.1  # MB; what keeps nothing is drawn here

Row = dict[str, Any]


def measure(run: Path) -> dict[str, Row]:
    """By method: bits per byte on all text and on its leak-free part, megabytes, operations."""
    record = json.loads((run / "evaluations" / "rivals" / "rivals.json").read_text())
    rivals = {row["name"]: row for row in record["rivals"]}
    plain = rivals["plain"]
    width = json.loads((run / "model.json").read_text())["model"]["d_model"]
    searching = search_operations(rivals["knn_lm"]["facts"], record["settings"]["knn_lm"], width)
    return {
        row["label"]: {
            "all": _bits(row, "all"),
            "leak_free": _bits(row, "leak_free"),
            "megabytes": _megabytes(row, plain["parameters"], rivals["knn_lm"]["facts"]["tokens"]),
            "mflops": _operations(row, plain, searching * (row["name"] == "knn_lm")),
        }
        for row in rivals.values()
        if row["name"] not in LEFT_OUT
    }


def _bits(row: Row, part: str) -> float | None:
    figure = row["figures"].get(part)
    return None if figure is None else round(figure["bits_per_byte"], 4)


def _megabytes(row: Row, plain: int, tokens: int) -> float:
    """What a rival keeps beside the plain model, the text included where it is read."""
    text = row["facts"].get("training_bytes", TOKEN_BYTES * tokens * (row["name"] in READ_TEXT))
    extra = BYTES * max(0, (row["parameters"] or 0) - plain)
    return round((row["datastore_bytes"] + extra + text) / 1e6, 2)


def search_operations(facts: Row, asked: Row, width: int) -> float:
    """Operations of a search for the nearest states, products of vectors alone.

    Args:
        facts: of kNN-LM: its index's FAISS factory string, and the states in it.
        asked: of kNN-LM: `nprobe`, the inverted lists that a search visits.
        width: of a state.
    """
    found = re.search(r"IVF(\d+)", facts["factory"])
    if found is None:
        return 2 * width * facts["tokens"]
    lists = int(found[1])
    return 2 * width * (lists + min(lists, asked["nprobe"]) * facts["tokens"] / lists)


def _operations(row: Row, plain: Row, searching: float) -> float | None:
    """Millions of operations a token; None without a language model."""
    facts, own = row["facts"], plain["facts"]["flops_per_token"] + searching
    if row["parameters"] is None:
        return None
    if "tokens_read" in facts:
        own *= facts["tokens_read"] / facts["tokens_scored"]
    return round(facts.get("flops_per_token", own) / 1e6, 2)


def draw(known: dict[str, Row], folder: Path) -> Path:
    """Draws bits per byte over megabytes and over operations."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for number, (name, row) in enumerate(known.items()):
        style = {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": ""}
        axes[0].plot(max(LEAST, row["megabytes"]), row["all"], label=name, **style)
        if row["mflops"] is not None:
            axes[1].plot(row["mflops"], row["all"], **style)
    _logarithmic(axes[0], "MB beside a plain model", (0.1, 1, 10, 100))
    _logarithmic(axes[1], "million operations a token", (4, 8, 16, 32))
    axes[0].set_ylabel("bits per byte (lower is better)", fontsize=9, color=INK)
    figure.legend(loc="outside right upper", fontsize=8.5, frameon=False)
    path = folder / "experiment_worth.png"
    save(figure, path, "What a megabyte and a million operations are worth", 11)
    return path


def _logarithmic(axes: Axes, text: str, ticks: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(text, fontsize=9, color=INK)
    tidy(axes)


def table(known: dict[str, Row]) -> str:
    """The figures in Markdown, the best first."""
    head = ["method", "bits per byte", "leak-free part", "MB", "million operations a token"]
    rows = [
        [
            name,
            *(NONE if row[part] is None else f"{row[part]:.3f}" for part in ("all", "leak_free")),
            f"{row['megabytes']:,.1f}",
            NONE if row["mflops"] is None else f"{row['mflops']:.1f}",
        ]
        for name, row in sorted(known.items(), key=lambda item: item[1]["all"])
    ]
    return Table(head, rows).markdown()


if __name__ == "__main__":
    command("worth", __doc__, measure, draw, table)

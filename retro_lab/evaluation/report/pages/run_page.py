"""index.html: the verdict, tables, plots and files of a run on one page.

Plots are embedded, other files are linked. The page has no script, external font or date, so the
same results give the same bytes.
"""

from __future__ import annotations

import base64
from pathlib import Path

import orjson
from markupsafe import Markup

from ...measure.conditions import compared_with, in_order, label, reads_memory
from ...measure.leakage import Leakage
from ...records.results import Results, plain_in_words, warnings
from ..memory_report import memory_sentences, memory_tables
from ..reference_words import in_words
from ..table import Table, number
from ..tables import conditions_table, difference_text, probes_table
from ..verdict import verdict
from .render import render, write

PAGE_FILE = "index.html"
PLOTS = {
    "leakage.png": "Bits per byte on chunks that share at most alpha with the reference text",
    "injection.png": "What a planted leak changes, by its share of one half of the documents",
    "gain.png": "Where the gain is: by overlap, neighbour, place and document",
}
FILES = {
    "inspect.html": "the text itself, coloured by what retrieval or a memory gained on each token",
    "results.json": "every figure, with configuration, versions and lineage",
    "chunks.parquet": "a row a scored chunk; every figure here follows from it",
    "tokens.parquet": "a row a scored token",
    "gain.json": "where the gain is: every bin and correlation of the plot above",
    "injection.json": "the leak experiment: every dose on every set of chunks",
    "injection.svg": "its figure, to be scaled",
    "rivals.json": "rivals on the same tokens: figures, tuning and cost",
    "rivals.parquet": "their scores, a row a scored chunk",
    "harness.json": "lm-eval's tasks: its figures, by condition",
    "qa.json": "questions: every answer and the rank of its passage, with the figures",
    "config.yaml": "the configuration",
    "metrics.jsonl": "curves of the training",
    "run.log": "what the commands said",
}
RECORDS = {
    "injection.json": ("injection.json", "injection.svg", "injection.png"),
    "rivals.json": ("rivals.json", "rivals.parquet"),
}
"""By record of an optional evaluation, its files; later evaluations leave them in place."""
DECISIVE = ("split", "stride", "k", "reference")
OUTDATED = "of an evaluation with another split, stride, k or reference"


def write_run_page(results: Results, folder: Path) -> Path:
    """Writes index.html atomically into a run's directory and returns its path.

    The page shows the plots and files that exist in the directory.
    """
    path = folder / PAGE_FILE
    write(path, _render(results, folder))
    return path


def outdated(results: Results, folder: Path) -> set[str]:
    """Files in a run's directory from an evaluation with other `DECISIVE` settings than `results`.

    Missing and damaged records are skipped.
    """
    asked = results.config.get("eval", {})
    found: set[str] = set()
    for record, files in RECORDS.items():
        try:
            recorded = orjson.loads((folder / record).read_bytes())["evaluation"]
            same = all(recorded.get(name) == asked.get(name) for name in DECISIVE)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if not same:
            found.update(files)
    return found


def _render(results: Results, folder: Path) -> str:
    settings, leakage = results.evaluation, results.leakage
    scores, old = results.metrics[settings.split], outdated(results, folder)
    confidence = f"{100 * leakage.bootstrap.confidence:g} %"
    reads, overlaps = "on" in scores, leakage.reference is not None
    found = verdict(leakage, settings.max_run, results.compressors) if reads else None
    return render(
        "index.html.j2",
        title=folder.name,
        described=f"{settings.split} split, windows of {settings.window} tokens every "
        f"{settings.stride}; {confidence} paired bootstrap intervals over documents",
        warnings=warnings(results),
        sentences=[*(found.sentences if found else []), *memory_sentences(results)],
        conditions=conditions_table(
            scores, words=settings.words, perplexity=("perplexity", "perplexity a word")
        ),
        plain=results.plain and plain_in_words(results.plain),
        reference=in_words(leakage.reference),
        leakage=_leakage_table(leakage) if overlaps else None,
        memory=memory_tables(results),
        probes=probes_table(leakage, over="") if reads and len(scores) > 2 else None,
        plots=[
            (name, words, base64.b64encode((folder / name).read_bytes()).decode())
            for name, words in PLOTS.items()
            if (folder / name).is_file() and name not in old
        ],
        files=_files_table(folder, old),
    )


def _leakage_table(leakage: Leakage) -> Table:
    """As `tables.leakage_table`, but with all conditions and figures: a page has no width limit."""
    names = [name for name in in_order(leakage.curves) if not reads_memory(name)]
    other = compared_with(names) or "baseline"
    rows = [
        [
            f"{alpha:g}",
            f"{point.chunks:,}",
            f"{point.bytes:,}",
            f"{point.documents:,}",
            *(number(leakage.curves[name][place].bpb, ".4f") for name in names),
            difference_text(leakage.difference("on", other, alpha)),
        ]
        for place, (alpha, point) in enumerate(
            zip(leakage.alphas, leakage.curves[names[0]], strict=True)
        )
    ]
    figures = [*map(label, names), f"on minus {label(other)}"]
    return Table(["r(C) ≤", "chunks", "bytes", "documents", *figures], rows)


def _files_table(folder: Path, old: set[str]) -> Table:
    """Links to the existing files, with a description of each."""
    link = Markup('<a href="{0}">{0}</a>')
    rows = [
        [link.format(name), f"{words} ({OUTDATED})" if name in old else words]
        for name, words in FILES.items()
        if (folder / name).is_file()
    ]
    return Table([], rows, names=2)

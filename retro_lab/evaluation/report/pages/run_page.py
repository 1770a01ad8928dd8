"""index.html: the verdict, tables, plots and files of a run on one page.

Curves are drawn in the browser, plots are embedded, other files are linked. The page loads nothing
and has no date, so the same results give the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson
from markupsafe import Markup

from retro_lab.config.errors import UserError

from ...measure.conditions import compared_with, in_order, label, reads_memory
from ...measure.leakage import Leakage
from ...records.examples_file import Example, Examples
from ...records.results import Results, warnings
from ..memory_report import memory_tables
from ..plain_words import plain_in_words
from ..reference_words import in_words
from ..table import Table, number
from ..tables import conditions_table, difference_text, probes_table
from ..verdict_card import verdict_card, verdict_sentences
from .figures import leakage_figures
from .page_words import words_table
from .render import render, write
from .run_facts import (
    Link,
    compared_links,
    corpus_table,
    model_table,
    names_of,
    settings_table,
)
from .training_curves import training_figures

PAGE_FILE = "index.html"
PLOTS = {
    "injection.png": "What a planted leak changes, by its share of one half of the documents",
    "gain.png": "Where the gain is: by overlap, neighbour, place and document",
}
FILES = {
    "inspect.html": "the text itself, coloured by what retrieval or a memory gained on each token",
    "results.json": "every figure, with configuration, versions and lineage",
    "chunks.parquet": "a row a scored chunk; every figure here follows from it",
    "tokens.parquet": "a row a scored token",
    "leakage.png": "the leak figure as a picture",
    "examples.json": "the example chunks of this page",
    "gain.json": "where the gain is: every bin and correlation of the plot above",
    "injection.json": "the leak experiment: every dose on every set of chunks",
    "injection.svg": "its figure, to be scaled",
    "rivals.json": "rivals on the same tokens: figures, tuning and cost",
    "rivals.parquet": "their scores, a row a scored chunk",
    "rivals_tokens.parquet": "their scores, a row a scored token",
    "harness.json": "lm-eval's tasks: its figures, by condition",
    "qa.json": "questions: every answer and the rank of its passage, with the figures",
    "config.yaml": "the configuration",
    "metrics.jsonl": "curves of the training",
    "run.log": "what the commands said",
}
RECORDS = {
    "injection.json": ("injection.json", "injection.svg", "injection.png"),
    "rivals.json": ("rivals.json", "rivals.parquet", "rivals_tokens.parquet"),
}
"""By record of an optional evaluation, its files; later evaluations leave them in place."""
_LINK = Markup('<a href="{}">{}</a>')
DECISIVE = ("split", "stride", "k", "reference")
OUTDATED = "of an evaluation with another split, stride, k or reference"


def write_run_page(results: Results, folder: Path, other_evaluations: Sequence[Link] = ()) -> Path:
    """Writes index.html atomically into a run's directory and returns its path.

    The page shows the plots, curves and files that exist in the directory.

    Args:
        other_evaluations: links to further evaluations of the run, relative to the directory.
    """
    path = folder / PAGE_FILE
    write(path, _render(results, folder, other_evaluations))
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


def _render(results: Results, folder: Path, other_evaluations: Sequence[Link]) -> str:
    settings, leakage = results.evaluation, results.leakage
    old = outdated(results, folder)
    confidence = f"{100 * leakage.bootstrap.confidence:g} %"
    return render(
        "index.html.j2",
        title=": ".join(names_of(folder)),
        described=f"{settings.split} split, windows of {settings.window} tokens every "
        f"{settings.stride}; {confidence} paired bootstrap intervals over documents",
        warnings=warnings(results),
        card=verdict_card(results),
        sentences=verdict_sentences(results),
        words=words_table(results.metrics[settings.split]),
        plain=plain_in_words(results),
        curves=training_figures(folder / "metrics.jsonl"),
        leaks=leakage_figures(leakage) if "on" in leakage.curves else [],
        tables=_score_tables(results),
        examples=_examples(folder),
        corpus=corpus_table(results),
        model=model_table(results, folder),
        settings=settings_table(results),
        plots=[
            (name, words, base64.b64encode((folder / name).read_bytes()).decode())
            for name, words in PLOTS.items()
            if (folder / name).is_file() and name not in old
        ],
        links=_links_table([*compared_links(results, folder), *other_evaluations]),
        files=_files_table(folder, old),
        label=label,
    )


def _score_tables(results: Results) -> list[Table]:
    """All figures of the evaluation, by table."""
    settings, leakage = results.evaluation, results.leakage
    scores = results.metrics[settings.split]
    found = [
        conditions_table(
            scores,
            "Scores on all chunks",
            words=settings.words,
            perplexity=("perplexity", "perplexity a word"),
        )
    ]
    if leakage.reference is not None:
        found.append(_leakage_table(leakage))
    found += [
        table if table.title else replace(table, title="A memory read at every token")
        for table in memory_tables(results)
    ]
    if "on" in scores and len(scores) > 2:
        title = "Other neighbours read: bits per byte minus RETRO[ON]"
        found.append(probes_table(leakage, title, over=""))
    return found


def _examples(folder: Path) -> list[Example]:
    """The example chunks; empty without a readable examples.json."""
    try:
        return Examples.load(folder).examples
    except UserError:
        return []


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
    title = f"Bits per byte on chunks that share at most r(C) with {in_words(leakage.reference)}"
    return Table(["r(C) ≤", "chunks", "bytes", "documents", *figures], rows, title)


def _files_table(folder: Path, old: set[str]) -> Table:
    """Links to the existing files, with a description of each."""
    rows = [
        [_LINK.format(name, name), f"{words} ({OUTDATED})" if name in old else words]
        for name, words in FILES.items()
        if (folder / name).is_file()
    ]
    return Table(["file", "what it holds"], rows, "Files of this run", names=2)


def _links_table(links: Sequence[Link]) -> Table | None:
    if not links:
        return None
    rows = [[_LINK.format(link.href, link.name), link.what] for link in links]
    return Table(["run or evaluation", "what it is"], rows, "Beside this page", names=2)

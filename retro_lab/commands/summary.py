"""What a command says at its end: the figures, the verdict in words, where everything lies."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence

from rich.console import Console

from retro_lab.config.files import replacing
from retro_lab.config.schema import DatabaseConfig
from retro_lab.evaluation.measure.comparison import compare
from retro_lab.evaluation.measure.injection import INJECTION_FILE, Injection
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.gain_file import GAIN_FILE, load_gain
from retro_lab.evaluation.records.results import Results, plain_in_words, warnings
from retro_lab.evaluation.report.injection_verdict import injection_verdict
from retro_lab.evaluation.report.reference_words import in_words
from retro_lab.evaluation.report.run_page import OUTDATED, outdated
from retro_lab.evaluation.report.tables import (
    FURTHER_PROBES,
    comparison_table,
    conditions_table,
    gain_tables,
    injection_table,
    leakage_table,
    probes_table,
)
from retro_lab.evaluation.report.verdict import verdict
from retro_lab.rivals.table import RIVALS_FILE, load, rivals_table
from retro_lab.run.directory import RunDirectory
from retro_lab.store.progress import duration

LOG = logging.getLogger("retro_lab")


def show_results(run: RunDirectory, seconds: dict[str, float] | None = None) -> Results:
    """Prints a finished run's tables, verdict and files; needs neither torch nor the data.

    Args:
        run: a run with results.
        seconds: of each stage of this command, for the budget.

    Raises:
        UserError: if the run has no results or they cannot be read.
    """
    results = Results.load(run.results_file)
    scores = results.metrics[results.evaluation.split]
    documents = next(iter(results.leakage.curves.values()))[-1].documents
    console = Console(highlight=False, soft_wrap=False)
    console.print()
    title = f"{results.evaluation.split} split, {documents} documents"
    words = results.evaluation.words
    console.print(conditions_table(scores, title, words))
    if words is not None:
        console.print(f"{words:,} words: what white space parts, and line ends")
    if results.plain is not None:
        console.print(plain_in_words(results.plain))
    _show_database(console, results)
    if results.leakage.reference is not None:
        console.print()
        reference = in_words(results.leakage.reference)
        confidence = f"{100 * results.leakage.bootstrap.confidence:g} %"
        console.print(
            leakage_table(
                results.leakage,
                f"bits per byte on chunks that share at most r(C) with {reference}; "
                f"{confidence} intervals over documents",
            )
        )
    if set(FURTHER_PROBES) & set(scores):
        console.print()
        console.print(probes_table(results.leakage, "bits per byte when other neighbours are read"))
    console.print()
    for sentence in warnings(results):
        console.print(sentence, markup=False)
    if "on" in scores:
        settings = results.evaluation
        found = verdict(results.leakage, settings.max_run, results.compressors)
        for sentence in found.sentences:
            console.print(sentence, markup=False)
        console.print()
    _show_gain(console, run, results)
    old = outdated(results, run.path)
    for name, show in ((RIVALS_FILE, _show_rivals), (INJECTION_FILE, _show_injection)):
        if name in old:
            console.print(f"{name} is {OUTDATED}; it is not shown.\n")
        elif (run.path / name).is_file():
            show(console, run)
    _show_files(console, run, old)
    if seconds:
        parts = [f"{name} {duration(value)}" for name, value in seconds.items()]
        console.print(f"time    {', '.join(parts)}; total {duration(sum(seconds.values()))}")
    return results


def show_comparison(runs: Sequence[RunDirectory]) -> None:
    """Prints evaluated runs side by side, on the same chunks, and writes comparison.csv.

    Raises:
        UserError: runs that did not score the same text in the same tokens.
    """
    console = Console(highlight=False, soft_wrap=False)
    bootstrap = Results.load(runs[0].results_file).leakage.bootstrap
    tables = [ChunkTable.load(run.chunks_file) for run in runs]
    rows = compare(dict(zip(_told_apart(runs), tables, strict=True)), bootstrap)
    confidence = f"{100 * bootstrap.confidence:g} %"
    console.print()
    console.print(
        comparison_table(rows, f"{len(runs)} runs on the same chunks; {confidence} intervals")
    )
    path = runs[0].path.parent / "comparison.csv"
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = "run condition alpha bpb nats tokens bytes delta_bpb low high documents"
        writer.writerow(names.split())
        for row in rows:
            score, d = row.score, row.difference
            paired = [d.delta_bpb, d.low, d.high, d.documents] if d is not None else [None] * 4
            figures = [score.as_dict()["bpb"], score.nats, score.tokens, score.bytes]
            writer.writerow([row.name, row.condition, row.alpha, *figures, *paired])
    console.print(f"\ntable   {path}", soft_wrap=True)


def _told_apart(runs: Sequence[RunDirectory]) -> list[str]:
    """The last parts of each path, as many as tell all of them apart; by name if that does."""
    parts = [run.path.resolve().parts for run in runs]
    longest = max(map(len, parts))
    names = (["/".join(each[-depth:]) for each in parts] for depth in range(1, longest + 1))
    return next(found for found in names if len(set(found)) == len(runs))


def _show_database(console: Console, results: Results) -> None:
    """Says what was searched, unless it was the training split in training and now."""
    searched = results.evaluation.database
    if searched is None or searched.name == searched.trained_with == DatabaseConfig().in_words():
        return
    counts = f"{searched.documents:,} documents, {searched.chunks:,} chunks"
    console.print(f"\ndatabase: {searched.name} ({counts})", highlight=False)
    if searched.name != searched.trained_with:
        console.print(f"the run was trained with another one: {searched.trained_with}")


def _show_gain(console: Console, run: RunDirectory, results: Results) -> None:
    """Says where the gain is, in numbers, if the evaluation shows pages of it."""
    path = run.path / GAIN_FILE
    if results.config["eval"].get("pages") and path.is_file():
        for table in gain_tables(load_gain(path), results.leakage.reference):
            console.print(table)
            console.print()


def _show_rivals(console: Console, run: RunDirectory) -> None:
    console.print(rivals_table(load(run.path)))
    console.print()


def _show_injection(console: Console, run: RunDirectory) -> None:
    injection = Injection.load(run.path)
    first, second = injection.documents
    title = f"copies of a share of {first:,} documents planted; {second:,} others never are"
    console.print(injection_table(injection, title))
    console.print()
    for sentence in injection_verdict(injection).sentences:
        console.print(sentence, markup=False)
    console.print()


def _show_files(console: Console, run: RunDirectory, old: set[str]) -> None:
    console.print(f"run     {run.path}", soft_wrap=True)
    for label, name in (
        ("figures", "results.json"),
        ("chunks", "chunks.parquet"),
        ("tokens", "tokens.parquet"),
        ("rivals", RIVALS_FILE),
        ("plot", "leakage.png"),
        ("leak", "injection.png"),
        ("gain", "gain.png"),
        ("bins", GAIN_FILE),
        ("text", "inspect.html"),
        ("curves", "metrics.jsonl"),
        ("page", "index.html"),
    ):
        path = run.path / name
        if path.is_file() and name not in old:
            console.print(f"{label:<7} {path}", soft_wrap=True)

"""Output at the end of a command: tables of figures, the verdict and file paths."""

from __future__ import annotations

from rich.console import Console

from retro_lab.config.schema import DatabaseConfig
from retro_lab.config.wrapping import wrapped
from retro_lab.evaluation.measure.injection import INJECTION_FILE, Injection
from retro_lab.evaluation.records.gain_file import GAIN_FILE, load_gain
from retro_lab.evaluation.records.results import Results, warnings
from retro_lab.evaluation.report.injection_verdict import injection_verdict, of_memory
from retro_lab.evaluation.report.memory_report import memory_tables, memory_verdict
from retro_lab.evaluation.report.pages.run_page import OUTDATED, outdated
from retro_lab.evaluation.report.plain_words import plain_in_words
from retro_lab.evaluation.report.reference_words import in_words
from retro_lab.evaluation.report.table import Table
from retro_lab.evaluation.report.tables import (
    FURTHER_PROBES,
    conditions_table,
    gain_tables,
    injection_table,
    leakage_table,
    probes_table,
)
from retro_lab.evaluation.report.verdict import short_verdict
from retro_lab.evaluation.report.verdict_card import verdict_sentences
from retro_lab.rivals.table import RIVALS_FILE, load, rivals_tables
from retro_lab.run.directory import RunDirectory
from retro_lab.store.progress import counted, duration

FILES = {
    "figures": "results.json",
    "chunks": "chunks.parquet",
    "tokens": "tokens.parquet",
    "rivals": RIVALS_FILE,
    "plot": "leakage.png",
    "leak": "injection.png",
    "gain": "gain.png",
    "bins": GAIN_FILE,
    "text": "inspect.html",
    "curves": "metrics.jsonl",
    "page": "index.html",
}


def show_results(
    run: RunDirectory, seconds: dict[str, float] | None = None, *, verbose: bool = False
) -> Results:
    """Prints a finished run's tables, files and verdict, without torch and without the data.

    Args:
        run: a run with results.
        seconds: of each stage of this command.
        verbose: whether to print the whole verdict.

    Raises:
        UserError: if the results are missing or cannot be read.
    """
    results = Results.load(run.results_file)
    console, old = Console(highlight=False), outdated(results, run.path)
    console.print()
    _show_scores(console, results)
    console.print()
    path = run.path / GAIN_FILE
    if results.config["eval"].get("pages") and path.is_file():
        _show(console, *gain_tables(load_gain(path), results.leakage.reference))
    for name in (RIVALS_FILE, INJECTION_FILE):
        if name in old:
            console.print(f"{name} is {OUTDATED}; it is not shown.\n")
        elif (run.path / name).is_file() and name == RIVALS_FILE:
            _show(console, *rivals_tables(load(run.path)))
        elif (run.path / name).is_file():
            _show_injection(console, run)
    console.print(f"run     {run.path}", soft_wrap=True)
    for label, name in FILES.items():
        if (run.path / name).is_file() and name not in old:
            console.print(f"{label:<7} {run.path / name}", soft_wrap=True)
    if seconds:
        parts = [f"{name} {duration(value)}" for name, value in seconds.items()]
        total = duration(sum(seconds.values()))
        _say(console, f"time    {', '.join(parts)}; total {total}")
    sentences = _verdict(results, verbose)
    if sentences and not verbose:
        console.print("verdict below; in full with verbose=true")
    console.print()
    for sentence in [*warnings(results), *sentences]:
        _say(console, sentence)
    return results


def _say(console: Console, text: str) -> None:
    """Prints a line of words, wrapped without the blanks at line ends that rich would leave."""
    console.print(wrapped(text, console.width), markup=False, soft_wrap=True)


def _show(console: Console, *tables: Table) -> None:
    for table in tables:
        console.print(table)
        console.print()


def _show_scores(console: Console, results: Results) -> None:
    """Prints the tables of an evaluation, the plain model and the database."""
    settings, leakage = results.evaluation, results.leakage
    scores, words = results.metrics[settings.split], settings.words
    documents = next(iter(leakage.curves.values()))[-1].documents
    title = f"{settings.split} split, {counted(documents, 'documents')}"
    console.print(conditions_table(scores, title, words))
    if words is not None:
        console.print(f"{words:,} words: what white space parts, and line ends")
    for line in plain_in_words(results):
        _say(console, line)
    _show_database(console, results)
    if leakage.reference is not None:
        title = (
            f"bits per byte on chunks that share at most r(C) with {in_words(leakage.reference)}; "
            f"{100 * leakage.bootstrap.confidence:g} % intervals over documents"
        )
        console.print()
        console.print(leakage_table(leakage, title))
    for table in memory_tables(results):
        console.print()
        console.print(table)
    if set(FURTHER_PROBES) & set(scores):
        console.print()
        console.print(probes_table(leakage, "bits per byte when other neighbours are read"))


def _show_database(console: Console, results: Results) -> None:
    """Prints the database, unless both training and evaluation searched the training split."""
    searched = results.evaluation.database
    if searched is None or searched.name == searched.trained_with == DatabaseConfig().in_words():
        return
    counts = f"{searched.documents:,} documents, {searched.chunks:,} chunks"
    console.print(f"\ndatabase: {searched.name} ({counts})")
    if searched.name != searched.trained_with:
        console.print(f"the run was trained with another one: {searched.trained_with}")


def _verdict(results: Results, verbose: bool) -> list[str]:
    """The verdict, in three lines or all of it if verbose; empty for a model that reads nothing.

    A failed control of the memory is always among them.
    """
    if verbose:
        return verdict_sentences(results)
    sentences = []
    if "on" in results.metrics[results.evaluation.split]:
        sentences += short_verdict(results.leakage, results.compressors)
    memory = memory_verdict(results)
    sentences += memory.sentences[:1] if memory else []
    return sentences + (memory.controls if memory and memory.control_failed else [])


def _show_injection(console: Console, run: RunDirectory) -> None:
    injection = Injection.load(run.path)
    first, second = injection.documents
    title = f"copies of a share of {first:,} documents planted; {second:,} others never are"
    _show_doses(console, injection, title)
    if (memory := of_memory(injection)) is not None:
        _show_doses(
            console, memory, f"with memory; r(C): overlap with {in_words(memory.reference)}"
        )


def _show_doses(console: Console, injection: Injection, title: str) -> None:
    _show(console, injection_table(injection, title))
    for sentence in injection_verdict(injection).sentences:
        _say(console, sentence)
    console.print()

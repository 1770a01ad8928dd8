"""Tables of harness.json and qa.json for the terminal: conditions beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from ..measure.conditions import label

NONE = "-"


def harness_table(record: Mapping[str, Any], title: str) -> Table:
    """A row a task and metric, a column a condition; an arrow says which way is better."""
    table = _table(title, "task", "metric")
    conditions = record["conditions"]
    if "plain" in conditions:  # the baseline has read fewer tokens, and 80 columns hold one of them
        conditions = [name for name in conditions if name != "baseline"]
    for name in (*conditions, "docs"):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for task, metrics in record["tasks"].items():
        for metric, figures in metrics.items():
            first = figures[conditions[0]]
            arrow = {True: " ↑", False: " ↓"}.get(first["higher_is_better"], "")
            cells = [_figure(figures[name]) for name in conditions]
            samples = NONE if first["samples"] is None else f"{first['samples']:,}"
            table.add_row(escape(task), escape(metric + arrow), *cells, samples)
    return table


def qa_tables(record: Mapping[str, Any]) -> list[Table]:
    """Answers by condition; how often a passage holds one, by the passages looked at."""
    count = len(record["questions"])
    answers = _table(f"{count:,} questions, answers", "condition")
    for heading in ("exact match", "F1"):
        answers.add_column(heading, justify="right")
    for name, figures in record["answers"].items():
        answers.add_row(
            escape(label(name)), *(f"{figures[key]:.2%}" for key in ("exact_match", "f1"))
        )
    if not record["recall"]:
        return [answers]
    recall = _table("a passage holds a right answer", "passages")
    for name in record["recall"]:
        heading = "found" if name == "on" else name
        recall.add_column(heading, justify="right")
    for k in next(iter(record["recall"].values())):
        recall.add_row(f"first {k}", *(f"{shares[k]:.1%}" for shares in record["recall"].values()))
    return [answers, recall]


def _figure(figure: Mapping[str, Any]) -> str:
    text, stderr = _short(figure["value"]), figure["stderr"]
    return text if stderr is None else f"{text}\n±{_short(stderr)}"


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"


def _table(title: str, *headings: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
        min_width=len(title),  # a title is not wider than its table
    )
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table

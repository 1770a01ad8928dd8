"""Terminal tables of harness.json and qa.json, one column or row for each condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..measure.conditions import label
from .table import NONE, Table


def harness_table(record: Mapping[str, Any], title: str) -> Table:
    """A row for each task and metric, a column for each condition; arrows show what is better."""
    conditions = record["conditions"]
    if "plain" in conditions:  # 80 columns have room for one of the two
        conditions = [name for name in conditions if name != "baseline"]
    rows = []
    for task, metrics in record["tasks"].items():
        for metric, figures in metrics.items():
            first = figures[conditions[0]]
            arrow = {True: " ↑", False: " ↓"}.get(first["higher_is_better"], "")
            cells = [_figure(figures[name]) for name in conditions]
            samples = NONE if first["samples"] is None else f"{first['samples']:,}"
            rows.append([task, metric + arrow, *cells, samples])
    head = ["task", "metric", *conditions, "docs"]
    return Table(head, rows, title, names=2, whole_title=True)


def qa_tables(record: Mapping[str, Any]) -> list[Table]:
    """Exact match and F1 by condition, and recall of the retrieved passages."""
    answers = [
        [label(name), *(f"{figures[key]:.2%}" for key in ("exact_match", "f1"))]
        for name, figures in record["answers"].items()
    ]
    title = f"{len(record['questions']):,} questions, answers"
    tables = [Table(["condition", "exact match", "F1"], answers, title, whole_title=True)]
    if recall := record["recall"]:
        head = ["passages", *("found" if name == "on" else name for name in recall)]
        rows = [
            [f"first {k}", *(f"{shares[k]:.1%}" for shares in recall.values())]
            for k in next(iter(recall.values()))
        ]
        tables.append(Table(head, rows, "a passage holds a right answer", whole_title=True))
    return tables


def _figure(figure: Mapping[str, Any]) -> str:
    text, stderr = _short(figure["value"]), figure["stderr"]
    return text if stderr is None else f"{text}\n±{_short(stderr)}"


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"

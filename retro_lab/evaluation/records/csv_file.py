"""CSV files of unrounded figures, for spreadsheets and other programs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from retro_lab.config.files import replacing

from ..measure.comparison import ComparedRun
from ..measure.leakage import Difference

PAIRED = ("delta_bpb", "low", "high", "documents")
"""Headings of a paired difference."""


def write_csv(head: Sequence[str], rows: Iterable[Sequence[Any]], path: Path) -> None:
    """Writes a CSV file atomically; None becomes an empty cell."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def paired(difference: Difference | None) -> list[Any]:
    """Cells of a difference under the headings `PAIRED`."""
    return [getattr(difference, name, None) for name in PAIRED]


def write_comparison(rows: Sequence[ComparedRun], path: Path) -> None:
    """Writes comparison.csv: runs on the same chunks, a row for each run and bound on r(C)."""
    head = ["run", "condition", "alpha", "bpb", "nats", "tokens", "bytes", *PAIRED]
    lines = []
    for row in rows:
        score = row.score
        figures = [score.as_dict()["bpb"], score.nats, score.tokens, score.bytes]
        lines.append([row.name, row.condition, row.alpha, *figures, *paired(row.difference)])
    write_csv(head, lines, path)

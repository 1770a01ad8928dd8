"""Compares evaluated runs on the same chunks: paired differences from the first run.

Runs are paired chunk by chunk, so they must have scored the same text in the same tokens. A chunk
is filtered by the longest shared run that any of the compared runs found for it, so that all runs
keep the same chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError

from ..records.chunk_table import ChunkTable
from .leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference
from .metrics import Score
from .overlap import within
from .statistics import Bootstrap, chunk_intervals


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison, under one bound on r(C).

    Attributes:
        name: name of the run's directory.
        condition: "on", or "baseline" for a run without retrieval.
        alpha: the bound on r(C), 1 or 0.125.
        score: score on the chunks kept.
        difference: this run minus the first run, on these chunks; None for the first run.
    """

    name: str
    condition: str
    alpha: float
    score: Score
    difference: Difference | None


def compare(tables: Mapping[str, ChunkTable], bootstrap: Bootstrap) -> list[ComparedRun]:
    """Each run at alpha = 1, then each at 0.125 if overlap was measured for any run.

    Args:
        tables: by name of the run; the others are compared with the first.

    Raises:
        UserError: the runs scored different documents, text or tokens.
    """
    names = list(tables)
    first = tables[names[0]]
    for name in names[1:]:
        check_same_chunks(names[0], first, name, tables[name])
    conditions = {
        name: "on" if "on" in table.nats else "baseline" for name, table in tables.items()
    }
    nats = {name: tables[name].nats[conditions[name]] for name in names}
    runs = [t.overlap.longest_run for t in tables.values() if t.overlap is not None]
    found = []
    for alpha in [UNFILTERED, LEAK_FREE_ALPHA] if runs else [UNFILTERED]:
        kept = np.ones(len(first), np.bool_)
        if alpha < UNFILTERED:
            kept = within(alpha, np.max(runs, axis=0), first.tokens)
        found += _at(alpha, kept, first, nats, conditions, bootstrap)
    return found


def _at(
    alpha: float,
    kept: NDArray[np.bool_],
    table: ChunkTable,
    nats: Mapping[str, NDArray[np.float64]],
    conditions: Mapping[str, str],
    bootstrap: Bootstrap,
) -> list[ComparedRun]:
    names = list(nats)
    pairs = [(name, names[0]) for name in names[1:]]
    columns = {name: column[kept] for name, column in nats.items()}
    intervals, documents = chunk_intervals(
        table.document[kept], columns, table.bytes[kept], pairs, bootstrap
    )
    counts = int(table.tokens[kept].sum()), int(table.bytes[kept].sum())
    scores = {name: Score(float(np.sum(columns[name])), *counts) for name in names}
    found = []
    for name in names:
        difference = None
        if name != names[0]:
            low, high = intervals[name, names[0]] or (None, None)
            delta = scores[name].bpb - scores[names[0]].bpb if counts[1] else None
            difference = Difference(name, names[0], alpha, delta, low, high, documents)
        found.append(ComparedRun(name, conditions[name], alpha, scores[name], difference))
    return found


def check_same_chunks(name: str, table: ChunkTable, other: str, others: ChunkTable) -> None:
    """Raises UserError if two tables hold different documents, text, tokens or chunks."""
    fix = "compare runs of the same corpus, split, tokenizer and chunk size"
    both = f"{name} and {other} cannot be paired"
    mine, theirs = set(table.document_id), set(others.document_id)
    if mine != theirs:
        raise UserError(
            f"{both}: they scored other documents ({len(mine - theirs):,} only the first, "
            f"{len(theirs - mine):,} only the second, {len(mine & theirs):,} both)",
            fix,
        )
    if table.bytes.sum() != others.bytes.sum():
        raise UserError(
            f"{both}: the text of their documents differs "
            f"({table.bytes.sum():,} and {others.bytes.sum():,} bytes)",
            fix,
        )
    columns: Sequence[str] = ("document_id", "chunk_index", "tokens", "bytes")
    alike = len(table) == len(others) and all(
        np.array_equal(getattr(table, column), getattr(others, column)) for column in columns
    )
    if not alike:
        raise UserError(
            f"{both}: the same text is cut into other tokens or chunks "
            f"({table.tokens.sum():,} and {others.tokens.sum():,} tokens, "
            f"{len(table):,} and {len(others):,} chunks)",
            fix,
        )

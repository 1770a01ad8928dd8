"""The leak experiment: how a planted leak of known size changes scores, before and after filtering.

Copies of a growing share of the first half of the scored documents are planted in the database; the
second half is never planted. Each dose (share) is one evaluation of the same run on the same
chunks. The change of a set of chunks is RETRO[ON] under the dose minus RETRO[ON] with nothing
planted, with a paired interval over documents. Filtered sets hold the chunks with r(C) <= 0.125,
measured under the dose.

With a memory the same is measured of the model with its memory. A memory reads the whole database,
so its r(C) is the longest run shared with any text that was read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..records.chunk_table import MISSING, ChunkTable
from ..records.record_file import load_record, write_json
from .comparison import check_same_chunks
from .leakage import LEAK_FREE_ALPHA, Difference
from .overlap import overlap_ratio, within
from .statistics import Bootstrap, chunk_intervals

SCHEMA_VERSION = 1
INJECTION_FILE = "injection.json"
ON, MEMORY = "on", "memory"
CONDITIONS = ("plain", "baseline", "off", ON, MEMORY)
BINS = 20  # of the histogram of r(C)

INJECTED, FIRST, REST, SECOND = "injected", "first", "rest", "second"
FIRST_FILTERED, SECOND_FILTERED = "first_filtered", "second_filtered"
SETS = {
    INJECTED: "injected documents",
    REST: "first half, the rest",
    SECOND: "second half",
    FIRST: "first half",
    FIRST_FILTERED: f"first half, r(C)≤{LEAK_FREE_ALPHA:g}",
    SECOND_FILTERED: f"second half, r(C)≤{LEAK_FREE_ALPHA:g}",
}
"""Sets of chunks in display order; the first three are disjoint and cover all chunks."""


@dataclass(frozen=True)
class Dose:
    """One evaluation of the experiment.

    Attributes:
        share: planted share of the first half.
        planted: ids of the planted documents.
        folder: folder of its results.
        table: its scored chunks, with overlap.
    """

    share: float
    planted: Collection[str]
    folder: str
    table: ChunkTable


@dataclass(frozen=True)
class SetFigures:
    """Figures of one set of chunks under one dose.

    Attributes:
        bpb: bits per byte by condition; None for an empty set.
        change: RETRO[ON], or the model with its memory, minus the same with nothing planted;
            negative if the leak improves the score.
        other_neighbours: share of the chunks whose neighbours differ from those with nothing
            planted; None for an empty set.
    """

    chunks: int
    documents: int
    bytes: int
    bpb: dict[str, float | None]
    change: Difference
    other_neighbours: float | None


@dataclass(frozen=True)
class DoseFigures:
    """Figures of one dose.

    Attributes:
        planted: sorted ids of the planted documents.
        sets: figures by name, see `SETS`.
        median_overlap: median r(C) of the chunks of injected documents; None without such chunks.
        copied: share of these chunks with r(C) = 1.
        missed: share of these chunks with r(C) <= 0.125, which pass the filter.
        histogram: chunks of injected documents by r(C), in equal bins from 0 to 1.
        histogram_before: the same chunks by their r(C) with nothing planted.
    """

    share: float
    folder: str
    planted: list[str]
    sets: dict[str, SetFigures]
    median_overlap: float | None
    copied: float | None
    missed: float | None
    histogram: list[int]
    histogram_before: list[int]


@dataclass(frozen=True)
class Injection:
    """The whole experiment, stored as injection.json.

    Attributes:
        run_key: key of the evaluated run.
        evaluation: evaluation settings of all doses.
        reference: text that r(C) was measured against, as in results.json.
        documents: number of documents in the first and in the second half.
        doses: ascending; the first share is 0.
        memory: the same doses for the model with its memory; None without one.
    """

    run_key: str
    evaluation: dict[str, Any]
    reference: str | None
    bootstrap: Bootstrap
    documents: list[int]
    doses: list[DoseFigures]
    memory: list[DoseFigures] | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def condition(self) -> str:
        """The condition whose change is measured."""
        return self.doses[0].sets[FIRST].change.a

    def save(self, folder: Path) -> None:
        """Writes injection.json atomically."""
        write_json(self, folder / INJECTION_FILE)

    @classmethod
    def load(cls, folder: Path) -> Injection:
        """Reads injection.json.

        Raises:
            UserError: the file is missing, damaged or of another schema version.
        """
        fix = "python evaluate.py run=... eval=injection"
        return load_record(cls, folder / INJECTION_FILE, SCHEMA_VERSION, fix)


def sets_of(dose: Dose, first_half: Collection[str]) -> dict[str, NDArray[np.bool_]]:
    """By name of each of `SETS`, whether a chunk belongs to it, [S]."""
    table = dose.table
    first = np.isin(table.document_id, list(first_half))
    injected = np.isin(table.document_id, list(dose.planted))
    kept = _within(table)
    return {
        INJECTED: injected,
        REST: first & ~injected,
        SECOND: ~first,
        FIRST: first,
        FIRST_FILTERED: first & kept,
        SECOND_FILTERED: ~first & kept,
    }


def nothing_planted(condition: str) -> str:
    """The name of a condition's own score with nothing planted."""
    return f"{condition}, nothing planted"


def memory_figures_of(
    doses: Sequence[Dose], first_half: Collection[str], bootstrap: Bootstrap
) -> list[DoseFigures] | None:
    """As `figures_of`, for the model with its memory; None if it was scored without one."""
    tables = [dose.table for dose in doses]
    if any(MEMORY not in table.nats or table.exact is None for table in tables):
        return None
    by_run = [replace(dose, table=replace(dose.table, overlap=dose.table.exact)) for dose in doses]
    return figures_of(by_run, first_half, bootstrap, MEMORY)


def figures_of(
    doses: Sequence[Dose],
    first_half: Collection[str],
    bootstrap: Bootstrap,
    condition: str = ON,
) -> list[DoseFigures]:
    """Figures of every dose, compared with the first dose, which plants nothing.

    Args:
        doses: ascending doses of one run; the first share is 0.
        first_half: ids of the documents of the first half.
        condition: whose change is measured.

    Raises:
        UserError: the evaluations scored different text or tokens.
    """
    nothing = doses[0]
    for dose in doses[1:]:
        check_same_chunks(nothing.folder, nothing.table, dose.folder, dose.table)
    change = _Change(condition, nothing.table, bootstrap)
    return [_dose_figures(dose, sets_of(dose, first_half), change) for dose in doses]


class _Change(NamedTuple):
    """A condition under a dose minus the same condition with nothing planted."""

    condition: str
    nothing: ChunkTable
    bootstrap: Bootstrap

    def of(self, table: ChunkTable, kept: NDArray[np.bool_]) -> Difference:
        """The change on the kept chunks [S]."""
        name, nothing = self.condition, self.nothing
        pair = (name, nothing_planted(name))
        nats = dict(zip(pair, (table.nats[name][kept], nothing.nats[name][kept]), strict=True))
        intervals, documents = chunk_intervals(
            table.document[kept], nats, table.bytes[kept], [pair], self.bootstrap
        )
        low, high = intervals[pair] or (None, None)
        delta = table.score(name, kept).bpb - nothing.score(name, kept).bpb if kept.any() else None
        return Difference(*pair, 1.0, delta, low, high, documents)


def _dose_figures(dose: Dose, sets: dict[str, NDArray[np.bool_]], change: _Change) -> DoseFigures:
    table, nothing = dose.table, change.nothing
    moved = _other_neighbours(table, nothing)
    injected = sets[INJECTED]
    ratio, before = _ratio(table)[injected], _ratio(nothing)[injected]
    some = bool(injected.any())
    return DoseFigures(
        share=dose.share,
        folder=dose.folder,
        planted=sorted(dose.planted),
        sets={n: _set_figures(table, change.of(table, sets[n]), sets[n], moved) for n in SETS},
        median_overlap=float(np.median(ratio)) if some else None,
        copied=float((ratio == 1).mean()) if some else None,
        missed=float(_within(table)[injected].mean()) if some else None,
        histogram=_histogram(ratio),
        histogram_before=_histogram(before),
    )


def _set_figures(
    table: ChunkTable, change: Difference, kept: NDArray[np.bool_], moved: NDArray[np.bool_]
) -> SetFigures:
    scores = {name: table.score(name, kept) for name in CONDITIONS if name in table.nats}
    return SetFigures(
        chunks=int(kept.sum()),
        documents=change.documents,
        bytes=int(table.bytes[kept].sum()),
        bpb={name: score.bpb if score.bytes else None for name, score in scores.items()},
        change=change,
        other_neighbours=float(moved[kept].mean()) if kept.any() else None,
    )


def _other_neighbours(table: ChunkTable, nothing: ChunkTable) -> NDArray[np.bool_]:
    """[S] whether the neighbours of a chunk, or their order, differ; chunk ids are stable."""
    width = max(table.neighbours.shape[1], nothing.neighbours.shape[1])
    padded = [
        np.pad(t.neighbours, ((0, 0), (0, width - t.neighbours.shape[1])), constant_values=MISSING)
        for t in (table, nothing)
    ]
    return (padded[0] != padded[1]).any(axis=1)


def _ratio(table: ChunkTable) -> NDArray[np.float64]:
    assert table.overlap is not None, "the rules of eval.injection demand it"
    return overlap_ratio(table.overlap.longest_run, table.tokens)


def _within(table: ChunkTable) -> NDArray[np.bool_]:
    assert table.overlap is not None, "the rules of eval.injection demand it"
    return within(LEAK_FREE_ALPHA, table.overlap.longest_run, table.tokens)


def _histogram(ratio: NDArray[np.float64]) -> list[int]:
    return np.histogram(ratio, bins=BINS, range=(0, 1))[0].tolist()

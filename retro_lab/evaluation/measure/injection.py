"""A leak of known size: does the score see it, and does the filter take it out again?

Copies of a growing share of one half of the scored documents are planted in the database; nothing
of the other half ever is. Each dose is one evaluation of the same run on the same chunks. What is
reported for a set of chunks is RETRO[ON] under the dose minus RETRO[ON] with nothing planted, on
the very same chunks, with a paired interval over documents. A filtered set is what r(C) <= 0.125
keeps under the dose itself, as anyone sees it who does not know of the leak.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records.chunk_table import MISSING, ChunkTable
from ..records.results import load_record, write_json
from .comparison import check_same_chunks
from .leakage import LEAK_FREE_ALPHA, Difference
from .overlap import overlap_ratio, within
from .statistics import Bootstrap, chunk_intervals

SCHEMA_VERSION = 1
INJECTION_FILE = "injection.json"
NOTHING = "on, nothing planted"
CONDITIONS = ("plain", "baseline", "off", "on")
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
"""Sets of chunks, in the order they are shown; the first three are everything, each chunk once."""


@dataclass(frozen=True)
class Dose:
    """One evaluation.

    Attributes:
        share: of the first half that was planted.
        planted: ids of these documents.
        folder: where its results lie.
        table: its scored chunks; overlap is measured.
    """

    share: float
    planted: Collection[str]
    folder: str
    table: ChunkTable


@dataclass(frozen=True)
class SetFigures:
    """One set of chunks under one dose.

    Attributes:
        bpb: by condition; None where the set is empty.
        change: on minus on with nothing planted; negative where the leak made the score better.
        other_neighbours: share of the chunks that were predicted with other neighbours than with
            nothing planted; None for an empty set.
    """

    chunks: int
    documents: int
    bytes: int
    bpb: dict[str, float | None]
    change: Difference
    other_neighbours: float | None


@dataclass(frozen=True)
class DoseFigures:
    """One dose.

    Attributes:
        planted: ids of the documents, in order.
        sets: by name, see `SETS`.
        median_overlap: of r(C) over the chunks of injected documents; None if there is none.
        copied: share of these chunks with r(C) = 1.
        missed: share of these chunks with r(C) <= 0.125, which the filter would keep.
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
    """injection.json: the whole experiment.

    Attributes:
        run_key: of the run that was evaluated.
        evaluation: settings that all doses were evaluated with.
        reference: what r(C) was measured against, as in results.json.
        documents: of the first and of the second half.
        doses: ascending; the first is 0.
    """

    run_key: str
    evaluation: dict[str, Any]
    reference: str | None
    bootstrap: Bootstrap
    documents: list[int]
    doses: list[DoseFigures]
    schema_version: int = SCHEMA_VERSION

    def save(self, folder: Path) -> None:
        """Writes injection.json atomically."""
        write_json(self, folder / INJECTION_FILE)

    @classmethod
    def load(cls, folder: Path) -> Injection:
        """Reads injection.json.

        Raises:
            UserError: no such file, a damaged one, or one of another schema version.
        """
        fix = "python evaluate.py run=... eval=injection"
        return load_record(cls, folder / INJECTION_FILE, SCHEMA_VERSION, fix)


def sets_of(dose: Dose, first_half: Collection[str]) -> dict[str, NDArray[np.bool_]]:
    """[S] chunks of each of `SETS` under a dose."""
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


def figures_of(
    doses: Sequence[Dose], first_half: Collection[str], bootstrap: Bootstrap
) -> list[DoseFigures]:
    """Every dose against the first one, with which nothing is planted.

    Args:
        doses: ascending, of one run; the first share is 0.
        first_half: ids of the half that was planted from.

    Raises:
        UserError: evaluations that scored other text or other tokens.
    """
    nothing = doses[0]
    for dose in doses[1:]:
        check_same_chunks(nothing.folder, nothing.table, dose.folder, dose.table)
    return [_dose_figures(dose, nothing.table, first_half, bootstrap) for dose in doses]


def _dose_figures(
    dose: Dose, nothing: ChunkTable, first_half: Collection[str], bootstrap: Bootstrap
) -> DoseFigures:
    table, sets = dose.table, sets_of(dose, first_half)
    moved = _other_neighbours(table, nothing)
    injected = sets[INJECTED]
    ratio, before = _ratio(table)[injected], _ratio(nothing)[injected]
    some = bool(injected.any())
    return DoseFigures(
        share=dose.share,
        folder=dose.folder,
        planted=sorted(dose.planted),
        sets={n: _set_figures(table, nothing, sets[n], moved, bootstrap) for n in SETS},
        median_overlap=float(np.median(ratio)) if some else None,
        copied=float((ratio == 1).mean()) if some else None,
        missed=float(_within(table)[injected].mean()) if some else None,
        histogram=_histogram(ratio),
        histogram_before=_histogram(before),
    )


def _set_figures(
    table: ChunkTable,
    nothing: ChunkTable,
    kept: NDArray[np.bool_],
    moved: NDArray[np.bool_],
    bootstrap: Bootstrap,
) -> SetFigures:
    change = _change(table, nothing, kept, bootstrap)
    scores = {name: table.score(name, kept) for name in CONDITIONS if name in table.nats}
    return SetFigures(
        chunks=int(kept.sum()),
        documents=change.documents,
        bytes=int(table.bytes[kept].sum()),
        bpb={name: score.bpb if score.bytes else None for name, score in scores.items()},
        change=change,
        other_neighbours=float(moved[kept].mean()) if kept.any() else None,
    )


def _change(
    table: ChunkTable, nothing: ChunkTable, kept: NDArray[np.bool_], bootstrap: Bootstrap
) -> Difference:
    """On under a dose minus on with nothing planted, on the kept chunks."""
    pair = ("on", NOTHING)
    nats = {"on": table.nats["on"][kept], NOTHING: nothing.nats["on"][kept]}
    intervals, documents = chunk_intervals(
        table.document[kept], nats, table.bytes[kept], [pair], bootstrap
    )
    low, high = intervals[pair] or (None, None)
    delta = table.score("on", kept).bpb - nothing.score("on", kept).bpb if kept.any() else None
    return Difference(*pair, 1.0, delta, low, high, documents)


def _other_neighbours(table: ChunkTable, nothing: ChunkTable) -> NDArray[np.bool_]:
    """[S] chunks that read other chunks, or in another order; ids of own chunks never change."""
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

"""Writes rivals.json and rivals.parquet: scores of all rivals and RETRO, with intervals.

rivals.parquet has a row a scored chunk in the order of chunks.parquet. Its columns are document_id,
chunk_index, tokens, bytes, overlap if measured, subsample, and nats_<name>, null where a rival has
no figure. Rivals scored by whole documents have `document_nats` in rivals.json instead.

Shapes: S scored chunks, D documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retro_lab.evaluation.compressors.outcome import Outcome, Tuning
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.evaluation.measure.leakage import LEAK_FREE_ALPHA
from retro_lab.evaluation.measure.metrics import Score
from retro_lab.evaluation.measure.overlap import overlap_ratio
from retro_lab.evaluation.measure.statistics import Bootstrap, bits_per_byte_intervals
from retro_lab.evaluation.records.chunk_table import PREFIX, ChunkTable
from retro_lab.evaluation.records.parquet import write_columns
from retro_lab.evaluation.records.record_file import write_json

from .table import RIVALS_FILE, SCHEMA_VERSION

CHUNKS_FILE = "rivals.parquet"


@dataclass(frozen=True)
class Entry:
    """A scored rival, or a condition of the run.

    Attributes:
        name: of its column.
        label: display name.
        subset: scored text, the whole split or the subsample.
        outcome: nats and costs.
    """

    name: str
    label: str
    subset: Subset
    outcome: Outcome


@dataclass(frozen=True)
class Against:
    """Bits per byte minus another model's, with its interval over documents."""

    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Figure:
    """A score on a part of the text, and its difference from that of the run.

    Attributes:
        documents: number with a scored byte in this part.
        difference: bits per byte minus those of `Board.reference`; above zero, the run is better.
        low: lower end of the interval over documents; None for fewer than five documents.
        high: upper end.
        against_plain: the same for `Board.plain`; None for itself, or without one.
    """

    nats: float
    tokens: int
    bytes: int
    bits_per_byte: float | None
    documents: int
    difference: float | None
    low: float | None
    high: float | None
    against_plain: Against | None = None


@dataclass(frozen=True)
class Row:
    """A rival's record in rivals.json.

    Attributes:
        figures: by part: all, leak_free (r(C) at most 0.125) and subsample; None where the rival
            has no figure.
        seconds: of tuning, scoring, training and building.
        document_nats: by document id, for a rival without nats by chunk.
    """

    name: str
    label: str
    figures: dict[str, Figure | None]
    tuning: Tuning
    seconds: float
    parameters: int | None
    datastore_bytes: int
    facts: dict[str, Any] = field(default_factory=dict)
    document_nats: dict[str, float] | None = None


class Board:
    """Compares entries with the run on the parts of one split.

    A run without retrieval is its own plain model, and its rivals are compared with its memory.
    Where a memory was read, r(C) is over all text of database and training split.

    Args:
        subset: the whole split.
        subsample: documents on which every entry is scored.
        table: the run's chunk table, of the same tokens.

    Attributes:
        reference: the run's condition that every rival is compared with; None without any.
        plain: the condition of the plain model.

    Raises:
        ValueError: the table scored other tokens.
    """

    def __init__(self, subset: Subset, subsample: Subset, table: ChunkTable) -> None:
        if not (
            np.array_equal(table.tokens, subset.tokens)
            and np.array_equal(table.bytes, subset.bytes)
        ):
            raise ValueError("the rivals' tokens are not those of chunks.parquet")
        self.subset = subset
        self.table = table
        self.place = np.searchsorted(subset.documents, subset.document)
        self.sampled = np.isin(subset.document, subsample.documents)
        retrieves = "on" in table.nats
        self.plain = "plain" if retrieves else "baseline"
        own = "on" if retrieves else "memory"
        self.reference = own if own in table.nats else None
        self.ratio: NDArray[np.float64] | None = None
        if (overlap := table.exact or table.overlap) is not None:
            self.ratio = overlap_ratio(overlap.longest_run, table.tokens)

    @property
    def parts(self) -> dict[str, NDArray[np.bool_]]:
        """[S] whether a chunk is in each part; without leak_free if overlap was not measured."""
        found = {"all": np.ones(len(self.sampled), bool), "subsample": self.sampled}
        if self.ratio is not None:
            found["leak_free"] = self.ratio <= LEAK_FREE_ALPHA
        return found

    @property
    def compared_with(self) -> list[str]:
        """The run's conditions that every entry is compared with."""
        asked = (self.reference, self.plain)
        return [name for name in asked if name is not None and name in self.table.nats]

    def own(self, condition: str) -> NDArray[np.float64]:
        """[S] nats of a condition of the run."""
        return self.table.nats[condition]

    def row(self, entry: Entry, bootstrap: Bootstrap) -> Row:
        """The entry's figures on every part."""
        outcome = entry.outcome
        ids = dict(zip(self.subset.document.tolist(), self.table.document_id, strict=True))
        documents = entry.subset.documents.tolist()
        by_document = None
        if outcome.chunk_nats is None:
            nats = outcome.document_nats.tolist()
            by_document = {str(ids[d]): n for d, n in zip(documents, nats, strict=True)}
        return Row(
            entry.name,
            entry.label,
            {part: self._figure(entry, kept, bootstrap) for part, kept in self.parts.items()},
            outcome.tuning,
            outcome.seconds,
            outcome.parameters,
            outcome.datastore_bytes,
            outcome.facts,
            by_document,
        )

    def chunk_nats(self, entry: Entry) -> NDArray[np.float64]:
        """[S] nats by chunk, NaN where the entry has no figure."""
        nats = np.full(len(self.sampled), np.nan)
        if entry.outcome.chunk_nats is not None:
            nats[np.isin(self.subset.rows, entry.subset.rows)] = entry.outcome.chunk_nats
        return nats

    def _figure(self, entry: Entry, kept: NDArray[np.bool_], bootstrap: Bootstrap) -> Figure | None:
        """The entry's figure on the kept chunks; None unless the entry scored all of them."""
        size = len(self.subset.documents)
        theirs = self._document_nats(entry, kept)
        if theirs is None or not kept.any():
            return None
        names = self.compared_with
        columns = [self.subset.tokens, self.subset.bytes, *map(self.own, names)]
        tokens, num_bytes, *own = (
            np.bincount(self.place[kept], column[kept], size) for column in columns
        )
        present = num_bytes > 0
        others = {f"own {name}": sums for name, sums in zip(names, own, strict=True)}
        intervals = bits_per_byte_intervals(
            {name: sums[present] for name, sums in {entry.name: theirs, **others}.items()},
            num_bytes[present],
            [(entry.name, name) for name in others],
            bootstrap,
        )
        score = Score(math.fsum(theirs[present]), int(tokens.sum()), int(num_bytes.sum()))
        against: dict[str | None, Against] = {}
        for name, sums in zip(names, own, strict=True):
            other = Score(math.fsum(sums), score.tokens, score.bytes)
            low, high = intervals[entry.name, f"own {name}"] or (None, None)
            if name != entry.name:
                against[name] = Against(score.bpb - other.bpb, low, high)
        own = against.get(self.reference)
        return Figure(
            **{name: getattr(score, name) for name in ("nats", "tokens", "bytes")},
            bits_per_byte=score.bpb,
            documents=int(present.sum()),
            difference=own and own.difference,
            low=own and own.low,
            high=own and own.high,
            against_plain=against.get(self.plain),
        )

    def _document_nats(self, entry: Entry, kept: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """[D] nats by document on the kept chunks; None unless the entry scored all of them."""
        size = len(self.subset.documents)
        if entry.outcome.chunk_nats is not None:
            nats = self.chunk_nats(entry)[kept]
            if np.isnan(nats).any():
                return None
            return np.bincount(self.place[kept], nats, size).astype(np.float64)
        scored = np.isin(self.subset.documents, entry.subset.documents)
        chunks = np.bincount(self.place[kept], minlength=size)
        touched, whole = chunks > 0, chunks == np.bincount(self.place, minlength=size)
        if not (scored & whole)[touched].all():
            return None
        nats = np.zeros(size)
        nats[scored] = entry.outcome.document_nats
        return np.where(touched, nats, 0.0)


def save(folder: Path, board: Board, entries: Sequence[Entry], about: dict[str, Any]) -> None:
    """Writes both files atomically.

    Args:
        about: fields common to all rows, with the intervals' settings in `bootstrap`.
    """
    bootstrap = Bootstrap(**about["bootstrap"])
    rows = [asdict(board.row(entry, bootstrap)) for entry in entries]
    record = {"schema_version": SCHEMA_VERSION, **about, "rivals": rows}
    columns: dict[str, Any] = {
        "document_id": pa.array(board.table.document_id, pa.string()),
        "chunk_index": pa.array(board.table.chunk_index, pa.int32()),
        "tokens": pa.array(board.subset.tokens, pa.int64()),
        "bytes": pa.array(board.subset.bytes, pa.int64()),
        "subsample": pa.array(board.sampled, pa.bool_()),
    }
    if board.ratio is not None:
        columns["overlap"] = pa.array(board.ratio, pa.float64())
    for entry in entries:
        nats = board.chunk_nats(entry)
        columns[PREFIX + entry.name] = pa.array(nats, pa.float64(), from_pandas=True)
    write_columns(columns, folder / CHUNKS_FILE)
    write_json(record, folder / RIVALS_FILE)

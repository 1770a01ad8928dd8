"""chunks.parquet: one row for each scored chunk, enough to recompute a whole leakage report.

Columns: document_id, chunk_index, tokens, bytes, nats_<condition>, with_retrieval; neighbours,
neighbour_scores and neighbour_runs, lists in the retriever's order. If overlap was measured:
overlap (r(C)), longest_run, partial. If similarity was measured: unigram_overlap, ngram_jaccard.
With a memory: exact_run, the longest run shared with any text of database or training split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..measure.conditions import in_order
from ..measure.metrics import ChunkScores, Score
from ..measure.ngram_overlap import Similarity
from ..measure.overlap import overlap_ratio
from .parquet import read_columns, write_columns

PREFIX = "nats_"
MISSING = -1
INTEGERS = {
    "chunk_index": pa.int32(),
    "tokens": pa.int64(),
    "bytes": pa.int64(),
    "with_retrieval": pa.int64(),
}
REQUIRED = ["document_id", *INTEGERS, "neighbours"]


@dataclass(frozen=True)
class Overlap:
    """Overlap of the chunks with the reference text.

    Attributes:
        longest_run: int32 [S] longest common token run.
        partial: bool [S] whether a chunk ends in padding, as the last of a document may.
    """

    longest_run: NDArray[np.int32]
    partial: NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """Figures of each neighbour read; values of missing neighbours are arbitrary.

    Attributes:
        scores: float32 [S, K] retrieval score, by which the search is ordered.
        runs: int32 [S, K] longest token run that the neighbour with its continuation shares with
            the chunk predicted from it.
    """

    scores: NDArray[np.float32]
    runs: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class ChunkTable:
    """Scored chunks in corpus order, S rows.

    Attributes:
        document_id: [S] strings.
        chunk_index: int32 [S] number within the document, from 0.
        tokens: int64 [S] scored tokens, the chunk's text tokens.
        bytes: int64 [S] UTF-8 bytes.
        with_retrieval: int64 [S] scored tokens that could read a neighbour.
        nats: by condition, float64 [S].
        neighbours: int64 [S, K] global ids of the neighbour chunks read; -1 is missing.
        overlap: None if not measured.
        similarity: None if not measured.
        reading: None in older files.
        exact: overlap with all text of the database and the training split; None without a memory.
    """

    document_id: NDArray[np.object_]
    chunk_index: NDArray[np.int32]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]
    with_retrieval: NDArray[np.int64]
    nats: Mapping[str, NDArray[np.float64]]
    neighbours: NDArray[np.int64]
    overlap: Overlap | None = None
    similarity: Similarity | None = None
    reading: Reading | None = None
    exact: Overlap | None = None

    @classmethod
    def from_scores(
        cls,
        scores: Mapping[str, ChunkScores],
        document_id: Sequence[str],
        chunk_index: NDArray[np.integer],
        neighbours: NDArray[np.integer],
        overlap: Overlap | None = None,
        similarity: Similarity | None = None,
        reading: Reading | None = None,
    ) -> ChunkTable:
        """Builds the table from the scores of each condition; all arrays have S rows.

        Args:
            scores: by condition, all on the same tokens; with_retrieval comes from "on", or from
                the first condition if "on" is missing.

        Raises:
            ValueError: the conditions scored different tokens or bytes.
        """
        first = scores.get("on", next(iter(scores.values())))
        for name, other in scores.items():
            same = np.array_equal(first.tokens, other.tokens)
            if not same or not np.array_equal(first.bytes, other.bytes):
                raise ValueError(f"condition {name} scored other tokens than the rest")
        rows = first.rows
        return cls(
            np.asarray(document_id, object),
            np.asarray(chunk_index, np.int32),
            first.tokens[rows],
            first.bytes[rows],
            first.with_retrieval[rows],
            {name: scores[name].nats[rows] for name in in_order(scores)},
            np.asarray(neighbours, np.int64),
            overlap,
            similarity,
            reading,
        )

    def __post_init__(self) -> None:
        columns = [self.document_id, self.chunk_index, self.neighbours, *self.nats.values()]
        if self.overlap is not None:
            columns += [self.overlap.longest_run, self.overlap.partial]
        if self.exact is not None:
            columns += [self.exact.longest_run, self.exact.partial]
        if self.similarity is not None:
            columns += [self.similarity.unigram, self.similarity.jaccard]
        if self.reading is not None:
            columns += [self.reading.scores, self.reading.runs]
        if any(len(column) != len(self.tokens) for column in columns):
            raise ValueError(f"columns of unequal length, {len(self.tokens)} rows expected")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def document(self) -> NDArray[np.int64]:
        """[S] number of each chunk's document, in order of first appearance."""
        codes = pa.array(self.document_id, pa.string()).dictionary_encode().indices
        return codes.to_numpy(zero_copy_only=False).astype(np.int64)

    def score(self, condition: str, kept: NDArray[np.bool_] | None = None) -> Score:
        """Sum over all or the kept chunks, exactly rounded, so independent of their order."""
        rows = slice(None) if kept is None else kept
        nats = math.fsum(self.nats[condition][rows])
        return Score(nats, int(self.tokens[rows].sum()), int(self.bytes[rows].sum()))

    @property
    def retrieval_fraction(self) -> float | None:
        """Share of scored tokens that could read a neighbour; None for an empty table."""
        tokens = int(self.tokens.sum())
        return int(self.with_retrieval.sum()) / tokens if tokens else None

    def save(self, path: Path) -> None:
        """Writes chunks.parquet atomically; the same table gives the same bytes."""
        columns: dict[str, pa.Array] = {"document_id": pa.array(self.document_id, pa.string())}
        for name, kind in INTEGERS.items():
            columns[name] = pa.array(getattr(self, name), kind)
        for condition, nats in self.nats.items():
            columns[PREFIX + condition] = pa.array(nats, pa.float64())
        if self.overlap is not None:
            run = self.overlap.longest_run
            columns["overlap"] = pa.array(overlap_ratio(run, self.tokens), pa.float64())
            columns["longest_run"] = pa.array(run, pa.int32())
            columns["partial"] = pa.array(self.overlap.partial, pa.bool_())
        if self.exact is not None:
            columns["exact_run"] = pa.array(self.exact.longest_run, pa.int32())
            columns["partial"] = pa.array(self.exact.partial, pa.bool_())
        if self.similarity is not None:
            columns["unigram_overlap"] = pa.array(self.similarity.unigram, pa.float64())
            columns["ngram_jaccard"] = pa.array(self.similarity.jaccard, pa.float64())
        columns["neighbours"] = _to_lists(self.neighbours, self.neighbours, pa.int64())
        if self.reading is not None:
            scores, runs = self.reading.scores, self.reading.runs
            columns["neighbour_scores"] = _to_lists(self.neighbours, scores, pa.float32())
            columns["neighbour_runs"] = _to_lists(self.neighbours, runs, pa.int32())
        write_columns(columns, path)

    @classmethod
    def load(cls, path: Path) -> ChunkTable:
        """Reads chunks.parquet.

        Raises:
            UserError: the file is missing, damaged or without a required column.
        """
        fix = "run the evaluation again; it writes the file anew"
        table = read_columns(path, REQUIRED, fix)
        conditions = [n.removeprefix(PREFIX) for n in table.column_names if n.startswith(PREFIX)]
        overlap = None
        if {"longest_run", "partial"} <= set(table.column_names):
            overlap = Overlap(_numpy(table, "longest_run"), _numpy(table, "partial"))
        exact = None
        if {"exact_run", "partial"} <= set(table.column_names):
            exact = Overlap(_numpy(table, "exact_run"), _numpy(table, "partial"))
        similarity = None
        if {"unigram_overlap", "ngram_jaccard"} <= set(table.column_names):
            columns = _numpy(table, "unigram_overlap"), _numpy(table, "ngram_jaccard")
            similarity = Similarity(*columns)
        reading = None
        if {"neighbour_scores", "neighbour_runs"} <= set(table.column_names):
            reading = Reading(
                _from_lists(table["neighbour_scores"], np.float32(-np.inf)),
                _from_lists(table["neighbour_runs"], np.int32(0)),
            )
        return cls(
            document_id=np.asarray(table["document_id"].to_pylist(), object),
            **{name: _numpy(table, name) for name in INTEGERS},
            nats={name: _numpy(table, PREFIX + name) for name in conditions},
            neighbours=_from_lists(table["neighbours"], np.int64(MISSING)),
            overlap=overlap,
            similarity=similarity,
            reading=reading,
            exact=exact,
        )


def _numpy(table: pa.Table, name: str) -> NDArray:
    return table[name].to_numpy()


def _to_lists(ids: NDArray[np.int64], values: NDArray, kind: pa.DataType) -> pa.Array:
    """[S, K] values -> [S] lists, without the values of missing neighbours (id -1)."""
    present = ids != MISSING
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[present], kind))


def _from_lists(column: pa.ChunkedArray, missing: np.generic) -> NDArray:
    """[S] lists -> [S, K], where K is the longest list; shorter lists are filled with `missing`."""
    lists = column.combine_chunks()
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    values = np.full((len(lengths), int(lengths.max(initial=0))), missing, missing.dtype)
    values[np.arange(values.shape[1]) < lengths[:, None]] = lists.flatten().to_numpy()
    return values

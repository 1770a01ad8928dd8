"""Rows of the stored tables: which chunks they are, what each chunk read, and its scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retro_lab.evaluation.measure.conditions import judged
from retro_lab.evaluation.measure.metrics import ChunkScores, TokenScores
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.text.chunks import ChunkStore


def condition_scores(
    table: ChunkTable,
    tokens: TokenTable | None,
    name: str,
    rows: NDArray[np.int64],
    chunks: ChunkStore,
) -> ChunkScores:
    """The scores of one condition, from the chunk and token tables."""

    def spread(values: NDArray) -> NDArray:
        column = np.zeros(chunks.num_chunks, values.dtype)
        column[rows] = values
        return column

    each = None
    if tokens is not None and name in tokens.nats:
        shape = chunks.tokens.shape
        place = rows[tokens.chunk_row], tokens.place
        memory = tokens.spread_memory(rows, shape) if name == judged(tokens.nats) else None
        each = TokenScores(np.zeros(shape, np.float64), np.zeros(shape, np.bool_), memory)
        each.nats[place] = tokens.nats[name]
        each.with_retrieval[place] = tokens.with_retrieval
    return ChunkScores(
        spread(table.nats[name]),
        spread(table.tokens),
        spread(table.bytes),
        spread(table.with_retrieval),
        each,
    )


def scored_rows(chunks: ChunkStore, split: str) -> NDArray[np.int64]:
    """Ids of a split's chunks that hold text to score, ascending."""
    ids = chunks.chunks_of(split)
    tokens = np.asarray(chunks.tokens[ids])
    return ids[((tokens != chunks.pad_id) & (tokens != chunks.boundary_id)).any(axis=1)]


def neighbours_read(
    chunks: ChunkStore, values: NDArray, rows: NDArray[np.int64], k: int
) -> NDArray:
    """[S, k] values of the neighbours read to predict each chunk, found for the previous chunk.

    A document's first chunk gets -1.

    Args:
        values: [C, k_store], the table's ids or scores.
    """
    read = np.array(values[np.maximum(rows - 1, 0), :k])
    read[chunks.index[rows] == 0] = -1
    return read


def same_neighbours(read: NDArray, stored: NDArray) -> bool:
    """Whether [S, k] neighbour ids equal the stored ones, which lack slots empty in every row."""
    width = stored.shape[1]
    missing = bool((read[:, width:] == -1).all())
    return missing and np.array_equal(_missing_last(read[:, :width]), _missing_last(stored))


def _missing_last(ids: NDArray) -> NDArray:
    """Ids with missing ones (-1) moved to the end of each row, as files hold them."""
    return np.take_along_axis(ids, np.argsort(ids == -1, axis=1, kind="stable"), axis=1)

"""Writes rivals_tokens.parquet: a row for each scored token, with the nats of every rival.

Columns: document_id, chunk_index, chunk_row (row of rivals.parquet), place (in the chunk, from 0),
token_id, bytes, and nats_<name>, null where a rival has no figure. A rival that scores whole
documents or bytes has no column, nor have the run's own conditions, which tokens.parquet holds.

Shapes: S scored chunks, T scored tokens, both in corpus order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retro_lab.evaluation.records.chunk_table import PREFIX
from retro_lab.evaluation.records.parquet import write_columns

from .report import Board, Entry

TOKENS_FILE = "rivals_tokens.parquet"


def save_tokens(folder: Path, board: Board, entries: Sequence[Entry]) -> None:
    """Writes the file atomically, or removes an older one where no rival kept its tokens."""
    kept = [entry for entry in entries if entry.outcome.token_nats is not None]
    if not kept:
        (folder / TOKENS_FILE).unlink(missing_ok=True)
        return
    subset, table = board.subset, board.table
    tokens = np.asarray(subset.store.tokens[subset.rows])
    text = (tokens != subset.store.pad_id) & (tokens != subset.store.boundary_id)
    row, place = np.nonzero(text)
    number_bytes = np.asarray(subset.store.token_bytes[subset.rows])
    columns: dict[str, Any] = {
        "document_id": pa.array(table.document_id[row], pa.string()),
        "chunk_index": pa.array(table.chunk_index[row], pa.int32()),
        "chunk_row": pa.array(row, pa.int64()),
        "place": pa.array(place, pa.int16()),
        "token_id": pa.array(tokens[row, place], pa.int32()),
        "bytes": pa.array(number_bytes[row, place], pa.int32()),
    }
    for entry in kept:
        nats = np.full(len(row), np.nan)
        nats[np.isin(subset.rows[row], entry.subset.rows)] = entry.outcome.token_nats
        columns[PREFIX + entry.name] = pa.array(nats, pa.float64(), from_pandas=True)
    write_columns(columns, folder / TOKENS_FILE)

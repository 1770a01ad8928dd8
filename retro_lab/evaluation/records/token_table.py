"""tokens.parquet: one row a scored token, on request; its nats add up to those of chunks.parquet.

Columns: document_id, chunk_index, chunk_row (row of chunks.parquet), place (in the chunk, from 0),
token_id, bytes, with_retrieval, nats_<condition>, and longest_match when overlap was searched
exactly. What was read for a token stands in its chunk's row: neighbours, neighbour_scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retro_lab.text.chunks import ChunkStore

from ..measure.conditions import in_order
from ..measure.metrics import ChunkScores
from .chunk_table import PREFIX, ChunkTable
from .parquet import read_columns, write_columns

INTEGERS = {
    "chunk_row": pa.int64(),
    "place": pa.int16(),
    "token_id": pa.int32(),
    "bytes": pa.int32(),
    "with_retrieval": pa.bool_(),
}


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Scored tokens in corpus order; T rows.

    Attributes:
        chunk_row: int64 [T] row of the chunk table.
        place: int16 [T] place in the chunk, from 0; the first chunk's 0 is the boundary token,
            which is not scored.
        token_id: int32 [T].
        bytes: int32 [T] UTF-8 bytes of raw text.
        with_retrieval: bool [T] predicted where a neighbour could be read.
        nats: by condition, float64 [T].
        longest_match: int32 [T] tokens of the longest run that begins here and stands in the
            training text, at most a chunk's; None when it was not searched.
    """

    chunk_row: NDArray[np.int64]
    place: NDArray[np.int16]
    token_id: NDArray[np.int32]
    bytes: NDArray[np.int32]
    with_retrieval: NDArray[np.bool_]
    nats: Mapping[str, NDArray[np.float64]]
    longest_match: NDArray[np.int32] | None = None

    @classmethod
    def from_scores(
        cls,
        scores: Mapping[str, ChunkScores],
        chunks: ChunkStore,
        rows: NDArray[np.int64],
        longest_match: NDArray[np.integer] | None = None,
    ) -> TokenTable:
        """The table of the scored chunks.

        Args:
            scores: by condition, with `by_token`.
            rows: [S] ids of the scored chunks, a row of the chunk table each.
            longest_match: [S, M].

        Raises:
            ValueError: token scores that do not add up to the chunks' own.
        """
        tokens = np.asarray(chunks.tokens[rows])
        text = (tokens != chunks.pad_id) & (tokens != chunks.boundary_id)
        row, place = np.nonzero(text)
        first = scores.get("on", next(iter(scores.values())))
        if not np.array_equal(text.sum(axis=1), first.tokens[rows]):
            raise ValueError("the scored tokens are not those of the text")
        nats = {}
        for name in in_order(scores):
            each = scores[name].by_token
            if each is None or not np.allclose(
                each.nats[rows].sum(axis=1), scores[name].nats[rows], rtol=1e-9, atol=1e-9
            ):
                raise ValueError(f"the token scores of {name} do not add up to its chunks'")
            nats[name] = each.nats[rows[row], place]
        assert first.by_token is not None
        return cls(
            row,
            place.astype(np.int16),
            tokens[row, place].astype(np.int32),
            np.asarray(chunks.token_bytes[rows])[row, place].astype(np.int32),
            first.by_token.with_retrieval[rows[row], place],
            nats,
            None if longest_match is None else longest_match[row, place].astype(np.int32),
        )

    def __len__(self) -> int:
        return len(self.place)

    def spread(self, values: NDArray, rows: NDArray[np.int64], shape: tuple[int, int]) -> NDArray:
        """[T] values of the tokens as [C, M], by chunk id and place; NaN where nothing was scored.

        Args:
            rows: [S] ids of the scored chunks.
            shape: (C, M) of the chunk store.
        """
        spread = np.full(shape, np.nan)
        spread[rows[self.chunk_row], self.place] = values
        return spread

    def save(self, path: Path, chunks: ChunkTable) -> None:
        """Write tokens.parquet atomically; the same table gives the same bytes.

        Args:
            chunks: the table that `chunk_row` counts the rows of.
        """
        names = pa.array(chunks.document_id, pa.string()).dictionary_encode()
        rows = pa.array(self.chunk_row)
        columns: dict[str, pa.Array] = {
            "document_id": names.take(rows),
            "chunk_index": pa.array(chunks.chunk_index, pa.int32()).take(rows),
        }
        for name, kind in INTEGERS.items():
            columns[name] = pa.array(getattr(self, name), kind)
        for condition, nats in self.nats.items():
            columns[PREFIX + condition] = pa.array(nats, pa.float64())
        if self.longest_match is not None:
            columns["longest_match"] = pa.array(self.longest_match, pa.int32())
        write_columns(columns, path)

    @classmethod
    def load(cls, path: Path) -> TokenTable:
        """Read tokens.parquet.

        Raises:
            UserError: no such file, a damaged one, or one without a column that is needed.
        """
        fix = "evaluate the run with eval.tokens=true; it writes the file"
        table = read_columns(path, list(INTEGERS), fix)
        conditions = [n.removeprefix(PREFIX) for n in table.column_names if n.startswith(PREFIX)]
        known = "longest_match" in table.column_names
        return cls(
            **{name: table[name].to_numpy() for name in INTEGERS},
            nats={name: table[PREFIX + name].to_numpy() for name in conditions},
            longest_match=table["longest_match"].to_numpy() if known else None,
        )

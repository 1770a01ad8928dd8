"""tokens.parquet: one row for each scored token (eval.tokens=true).

Columns: document_id, chunk_index, chunk_row (row of chunks.parquet), place (in the chunk, from 0),
token_id, bytes, with_retrieval, nats_<condition>, and longest_match if exact overlap was measured.
Nats add up to those of chunks.parquet, which also holds the neighbours and their scores.

With a memory also, for the condition `judged`: memory_share, the part of the token's probability
that the memory's experts gave, and memory_expert, the name of the expert that gave most; empty
where the language model gave more than all experts together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retro_lab.text.chunks import ChunkStore

from ..measure.conditions import in_order, judged
from ..measure.metrics import ChunkScores, MemoryShares
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
    """Scored tokens in corpus order, T rows.

    Attributes:
        chunk_row: int64 [T] row of the chunk table.
        place: int16 [T] place in the chunk, from 0; in a document's first chunk from 1, since
            place 0 is the boundary token.
        token_id: int32 [T].
        bytes: int32 [T] UTF-8 bytes of raw text.
        with_retrieval: bool [T] whether the prediction could read a neighbour.
        nats: by condition, float64 [T].
        longest_match: int32 [T] length of the longest run from this token that occurs in the
            training text, at most a chunk; None if exact overlap was not measured.
        memory: [T] each, what a memory gave under the condition `judged`; None if not kept.
    """

    chunk_row: NDArray[np.int64]
    place: NDArray[np.int16]
    token_id: NDArray[np.int32]
    bytes: NDArray[np.int32]
    with_retrieval: NDArray[np.bool_]
    nats: Mapping[str, NDArray[np.float64]]
    longest_match: NDArray[np.int32] | None = None
    memory: MemoryShares | None = None

    @classmethod
    def from_scores(
        cls,
        scores: Mapping[str, ChunkScores],
        chunks: ChunkStore,
        rows: NDArray[np.int64],
        longest_match: NDArray[np.integer] | None = None,
    ) -> TokenTable:
        """Builds the table of the scored tokens.

        Args:
            scores: by condition, with `by_token`.
            rows: [S] ids of the scored chunks, in the order of the chunk table.
            longest_match: [S, M].

        Raises:
            ValueError: the token scores do not add up to the chunk scores.
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
        about = scores.get(judged(scores))
        memory = None if about is None or about.by_token is None else about.by_token.memory
        return cls(
            row,
            place.astype(np.int16),
            tokens[row, place].astype(np.int32),
            np.asarray(chunks.token_bytes[rows])[row, place].astype(np.int32),
            first.by_token.with_retrieval[rows[row], place],
            nats,
            None if longest_match is None else longest_match[row, place].astype(np.int32),
            None if memory is None else memory[rows[row], place],
        )

    def __len__(self) -> int:
        return len(self.place)

    def spread(self, values: NDArray, rows: NDArray[np.int64], shape: tuple[int, int]) -> NDArray:
        """[C, M] token values [T] by chunk id and place; NaN for tokens that are not scored.

        Args:
            rows: [S] ids of the scored chunks.
            shape: (C, M) of the chunk store.
        """
        spread = np.full(shape, np.nan)
        spread[rows[self.chunk_row], self.place] = values
        return spread

    def spread_memory(self, rows: NDArray[np.int64], shape: tuple[int, int]) -> MemoryShares | None:
        """[C, M] each, what a memory gave to tokens; arguments as in `spread`."""
        if self.memory is None:
            return None
        spread = MemoryShares.empty(shape, self.memory.names)
        spread[rows[self.chunk_row], self.place] = self.memory
        return spread

    def save(self, path: Path, chunks: ChunkTable) -> None:
        """Writes tokens.parquet atomically; the same table gives the same bytes.

        Args:
            chunks: the chunk table that `chunk_row` refers to.
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
        if self.memory is not None:
            columns["memory_share"] = pa.array(self.memory.share, pa.float32())
            columns["memory_expert"] = _expert_names(self.memory)
        write_columns(columns, path)

    @classmethod
    def load(cls, path: Path) -> TokenTable:
        """Reads tokens.parquet.

        Raises:
            UserError: the file is missing, damaged or without a required column.
        """
        fix = "evaluate the run with eval.tokens=true; it writes the file"
        table = read_columns(path, list(INTEGERS), fix)
        conditions = [n.removeprefix(PREFIX) for n in table.column_names if n.startswith(PREFIX)]
        known = "longest_match" in table.column_names
        paid = "memory_share" in table.column_names
        return cls(
            **{name: table[name].to_numpy() for name in INTEGERS},
            nats={name: table[PREFIX + name].to_numpy() for name in conditions},
            longest_match=table["longest_match"].to_numpy() if known else None,
            memory=_memory(table["memory_share"], table["memory_expert"]) if paid else None,
        )


def _expert_names(memory: MemoryShares) -> pa.Array:
    """[T] name of each token's expert, encoded by those that occur."""
    places, codes = np.unique(memory.expert, return_inverse=True)
    names = ["" if place < 0 else memory.names[place] for place in places]
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))


def _memory(share: pa.ChunkedArray, expert: pa.ChunkedArray) -> MemoryShares:
    """The columns of a memory, read."""
    column = expert.combine_chunks().dictionary_encode()
    names = column.dictionary.to_pylist()
    known = tuple(name for name in names if name)
    place = np.array([known.index(name) if name else -1 for name in names], np.int16)
    return MemoryShares(share.to_numpy(), place[column.indices.to_numpy()], known)

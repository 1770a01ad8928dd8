"""Contract of tokens.parquet: a row a scored token, whose sums are the chunks' own; a lossless
round trip, the same bytes for the same table, and clear words about a bad file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.metrics import ChunkScores, MemoryShares, TokenScores
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.text.chunks import ChunkStore

M, PAD, BOUNDARY = 4, 9, 8


class Chunks(ChunkStore):
    """Two documents: three chunks, the last one short, and a lone boundary."""

    def __init__(self) -> None:
        self.pad_id, self.boundary_id = PAD, BOUNDARY
        self.tokens = np.array(
            [[BOUNDARY, 1, 2, 3], [4, 5, 6, 7], [1, PAD, PAD, PAD], [BOUNDARY, PAD, PAD, PAD]]
        )
        text = (self.tokens != PAD) & (self.tokens != BOUNDARY)
        self.token_bytes = (text * (self.tokens + 1)).astype(np.uint32)


def scores(off_by: float = 0.0) -> ChunkScores:
    chunks = Chunks()
    text = chunks.token_bytes > 0
    nats = np.where(text, chunks.tokens / 10 + 0.01, 0.0)
    reads = text & (np.arange(4) > 0)[:, None]
    each = TokenScores(nats, reads)
    counts = [text.sum(1), chunks.token_bytes.sum(1).astype(int), reads.sum(1)]
    return ChunkScores(nats.sum(1) + off_by, *counts, each)


@pytest.fixture
def chunk_table() -> ChunkTable:
    return ChunkTable.from_scores(
        {"on": scores()}, ["a", "a", "a"], np.arange(3), np.zeros((3, 0), int)
    )


def table(longest: bool = True) -> TokenTable:
    runs = np.arange(12).reshape(3, 4) if longest else None
    return TokenTable.from_scores({"on": scores(), "off": scores()}, Chunks(), np.arange(3), runs)


def test_a_row_is_a_text_token_with_its_own_figures(chunk_table: ChunkTable) -> None:
    found = table()
    assert found.token_id.tolist() == [1, 2, 3, 4, 5, 6, 7, 1]
    assert found.place.tolist() == [1, 2, 3, 0, 1, 2, 3, 0]
    assert found.chunk_row.tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
    assert found.bytes.tolist() == [2, 3, 4, 5, 6, 7, 8, 2]
    assert found.with_retrieval.tolist() == [False] * 3 + [True] * 5
    assert found.nats["on"] == pytest.approx(found.token_id / 10 + 0.01)
    assert found.longest_match is not None
    assert found.longest_match.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    sums = np.bincount(found.chunk_row, found.nats["on"])
    assert sums == pytest.approx(chunk_table.nats["on"])
    assert (np.bincount(found.chunk_row, found.bytes) == chunk_table.bytes).all()


def test_scores_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="off do not add up"):
        TokenTable.from_scores({"on": scores(), "off": scores(1e-3)}, Chunks(), np.arange(3))


@pytest.mark.parametrize("longest", [True, False])
def test_round_trip_is_lossless_and_repeatable(
    chunk_table: ChunkTable, tmp_path: Path, longest: bool
) -> None:
    for name in ("a", "b"):
        table(longest).save(tmp_path / name, chunk_table)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read, made = TokenTable.load(tmp_path / "a"), table(longest)
    for name in ("chunk_row", "place", "token_id", "bytes", "with_retrieval"):
        assert (getattr(read, name) == getattr(made, name)).all()
    assert list(read.nats) == ["off", "on"]
    assert all((read.nats[name] == made.nats[name]).all() for name in made.nats)
    assert (read.longest_match is None) is not longest
    columns = pq.read_table(tmp_path / "a")
    assert columns["document_id"].to_pylist() == ["a"] * 8
    assert columns["chunk_index"].to_pylist() == read.chunk_row.tolist()


def test_values_are_spread_to_their_chunks() -> None:
    spread = table().spread(np.arange(8.0), np.array([0, 1, 2]), (4, M))
    assert np.isnan(spread[[0, 3], 0]).all()
    assert spread[1].tolist() == [3, 4, 5, 6]
    assert np.isnan(spread[2, 1:]).all()


@pytest.mark.parametrize("content", [None, b"", b"PAR1 no"])
def test_a_bad_file_is_a_user_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokens.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"tokens\.parquet"):
        TokenTable.load(path)


def paid(expert: list[int], names: tuple[str, ...] = ("suffix:1", "suffix:2")) -> MemoryShares:
    """What a memory gave to the tokens of `Chunks`, by place in the store."""
    tokens = np.array(expert, np.int16).reshape(-1, M)
    return MemoryShares((np.arange(tokens.size).reshape(-1, M) / 16).astype("f4"), tokens, names)


def with_memory(expert: list[int]) -> TokenTable:
    plain = scores()
    assert plain.by_token is not None
    each = dataclasses.replace(plain.by_token, memory=paid(expert))
    other = dataclasses.replace(plain.by_token, memory=paid([0] * 16, ("cache:1",)))
    given = {
        "on": plain,
        "memory": dataclasses.replace(plain, by_token=other),
        "plain_memory": dataclasses.replace(plain, by_token=each),
    }
    return TokenTable.from_scores(given, Chunks(), np.arange(3))


def test_the_memorys_columns_are_those_of_the_judged_condition(
    chunk_table: ChunkTable, tmp_path: Path
) -> None:
    expert = [-1, 1, -1, 0, 1, 1, 0, 0, -1, *[-1] * 7]
    with_memory(expert).save(tmp_path / "a", chunk_table)
    columns = pq.read_table(tmp_path / "a")
    assert columns["memory_share"].type == pa.float32()
    assert columns["memory_share"].to_numpy() == pytest.approx(np.arange(1, 9) / 16)
    assert pa.types.is_dictionary(columns["memory_expert"].type)
    names = ["suffix:2", "", "suffix:1", "suffix:2", "suffix:2", "suffix:1", "suffix:1", ""]
    assert columns["memory_expert"].to_pylist() == names
    TokenTable.load(tmp_path / "a").save(tmp_path / "b", chunk_table)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    table().save(tmp_path / "without", chunk_table)
    assert not {"memory_share", "memory_expert"} & set(pq.read_schema(tmp_path / "without").names)

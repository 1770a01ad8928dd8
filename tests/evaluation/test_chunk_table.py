"""Contract of chunks.parquet: a lossless round trip, the same bytes for the same table, the
documented columns, conditions on the same tokens only, and clear words about a bad file."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from older import without_checksums

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.metrics import ChunkScores
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.store.checksums import CHECKSUMS

Make = Callable[..., ChunkTable]


def assert_equal(a: ChunkTable, b: ChunkTable) -> None:
    for name in ("document_id", "chunk_index", "tokens", "bytes", "with_retrieval", "neighbours"):
        assert (getattr(a, name) == getattr(b, name)).all(), name
    assert list(a.nats) == list(b.nats)
    assert all((a.nats[name] == b.nats[name]).all() for name in a.nats)
    assert (a.reading is None) == (b.reading is None)
    if a.reading is not None and b.reading is not None:
        assert (a.reading.scores == b.reading.scores).all()
        assert (a.reading.runs == b.reading.runs).all()
    if a.overlap is None or b.overlap is None:
        assert a.overlap is b.overlap
        return
    assert (a.overlap.longest_run == b.overlap.longest_run).all()
    assert (a.overlap.partial == b.overlap.partial).all()


@pytest.mark.parametrize("with_overlap", [True, False])
def test_round_trip_is_lossless(make_table: Make, tmp_path: Path, with_overlap: bool) -> None:
    table = make_table(with_overlap=with_overlap)
    table.save(tmp_path / "chunks.parquet")
    assert_equal(ChunkTable.load(tmp_path / "chunks.parquet"), table)
    assert {path.name for path in tmp_path.iterdir()} == {"chunks.parquet", CHECKSUMS}


def test_the_same_table_gives_the_same_bytes(make_table: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_table().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_columns_are_the_documented_ones(make_table: Make, tmp_path: Path) -> None:
    table = make_table()
    table.save(tmp_path / "chunks.parquet")
    read = pq.read_table(tmp_path / "chunks.parquet")
    nats = ["nats_baseline", "nats_plain", "nats_off", "nats_random", "nats_on"]
    assert set(read.column_names) == {
        *("document_id", "chunk_index", "tokens", "bytes", "with_retrieval", "neighbours"),
        *("neighbour_scores", "neighbour_runs"),
        *("overlap", "longest_run", "partial", *nats),
    }
    assert table.overlap is not None
    ratio = table.overlap.longest_run / table.tokens
    assert (read["overlap"].to_numpy() == ratio).all()
    assert read["neighbours"][0].as_py() == [], "the first chunk of a document reads nothing"
    assert len(read["neighbours"][1].as_py()) == 2
    assert len(read["neighbour_scores"][1].as_py()) == 2


def test_a_file_from_before_readings_were_stored_is_read(make_table: Make, tmp_path: Path) -> None:
    path = tmp_path / "chunks.parquet"
    replace(make_table(), reading=None).save(path)
    assert "neighbour_scores" not in pq.read_table(path).column_names
    assert ChunkTable.load(path).reading is None


def test_missing_neighbours_of_any_slot_survive(make_table: Make, tmp_path: Path) -> None:
    table = make_table()
    table.neighbours[3] = [7, -1]
    table.save(tmp_path / "chunks.parquet")
    assert ChunkTable.load(tmp_path / "chunks.parquet").neighbours[3].tolist() == [7, -1]


def scores(nats: list[float], tokens: list[int], reads: int = 0) -> ChunkScores:
    counts = np.array(tokens)
    return ChunkScores(np.array(nats), counts, counts * 3, np.minimum(counts, reads))


def test_table_of_scores_has_a_row_a_scored_chunk() -> None:
    table = ChunkTable.from_scores(
        {"on": scores([0, 1, 2], [0, 4, 5], 2), "baseline": scores([0, 3, 4], [0, 4, 5])},
        ["a", "b"],
        np.array([0, 0]),
        np.array([[1], [-1]]),
    )
    assert len(table) == 2
    assert list(table.nats) == ["baseline", "on"]
    assert table.nats["on"].tolist() == [1, 2]
    assert table.tokens.tolist() == [4, 5]
    assert table.with_retrieval.tolist() == [2, 2]
    assert table.retrieval_fraction == 4 / 9


def test_conditions_on_other_tokens_are_refused() -> None:
    different = {"on": scores([1, 2], [4, 5]), "baseline": scores([1, 2], [4, 4])}
    with pytest.raises(ValueError, match="baseline scored other tokens"):
        ChunkTable.from_scores(different, ["a", "b"], np.array([0, 1]), np.zeros((2, 1), int))


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="unequal length"):
        ChunkTable.from_scores(
            {"on": scores([1, 2], [4, 5])}, ["a"], np.array([0, 1]), np.zeros((2, 1), int)
        )


@pytest.mark.parametrize("content", [None, b"", b"PAR1 not really"])
def test_a_bad_file_is_a_user_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "chunks.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"chunks\.parquet"):
        ChunkTable.load(path)


def test_a_file_without_a_needed_column_is_a_user_error(make_table: Make, tmp_path: Path) -> None:
    path = tmp_path / "chunks.parquet"
    make_table().save(path)
    without_checksums(tmp_path)
    pq.write_table(pq.read_table(path).drop_columns(["tokens"]), path)
    with pytest.raises(UserError, match="no column tokens"):
        ChunkTable.load(path)


def test_every_flipped_bit_is_named(make_table: Make, tmp_path: Path) -> None:
    path, rng = tmp_path / "chunks.parquet", random.Random(0)
    make_table().save(path)
    written = path.read_bytes()
    for _ in range(50):
        path.write_bytes(flipped(written, rng))
        with pytest.raises(UserError, match=r"chunks\.parquet is damaged"):
            ChunkTable.load(path)
    path.write_bytes(written)
    assert_equal(ChunkTable.load(path), make_table())


def test_without_a_record_no_flipped_bit_of_the_data_is_read(
    make_table: Make, tmp_path: Path
) -> None:
    """Every page has a checksum; what is left is Parquet's own description of the columns."""
    path, rng = tmp_path / "chunks.parquet", random.Random(0)
    make_table().save(path)
    without_checksums(tmp_path)
    written = path.read_bytes()
    footer = int.from_bytes(written[-8:-4], "little") + 8
    named = 0
    for _ in range(100):
        path.write_bytes(flipped(written[:-footer], rng) + written[-footer:])
        try:
            found = ChunkTable.load(path)
        except UserError:
            named += 1
        else:
            assert_equal(found, make_table())
    assert named > 50


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)

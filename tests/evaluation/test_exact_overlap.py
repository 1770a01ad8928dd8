"""Contract of exact overlap: matching runs equal brute force on random and repetitive text, chunk
runs equal the textbook dynamic programme, special tokens end every run, and blocks change nothing.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retro_lab.evaluation.measure.exact_overlap import chunk_runs, covered, matching_runs
from retro_lab.evaluation.measure.exact_overlap_stage import (
    build_exact_overlap,
    exact_overlap_stage,
)
from retro_lab.evaluation.measure.overlap import longest_common_run
from retro_lab.store import ArtifactStore, Stage
from retro_lab.text.chunks import ChunkStore

PAD, BOUNDARY = 9, 8
SPECIAL = (PAD, BOUNDARY)


def brute_force(text: list[int], database: list[int], limit: int) -> list[int]:
    """Every place against every place, token by token."""

    def run(i: int, j: int) -> int:
        length = 0
        while length < limit and i + length < len(text) and j + length < len(database):
            token = text[i + length]
            if token != database[j + length] or token in SPECIAL:
                break
            length += 1
        return length

    return [max((run(i, j) for j in range(len(database))), default=0) for i in range(len(text))]


ALPHABETS = st.sampled_from([[0], [0, 1], [0, 1, PAD, BOUNDARY], list(range(8)), [0, 1, 40_000]])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Text that is random, periodic, or pieced together from the database: the hard cases."""
    letters = st.sampled_from(draw(ALPHABETS))
    database = draw(st.lists(letters, max_size=60))
    pieces = [st.lists(letters, max_size=20)]
    if database:
        place = st.integers(0, len(database))
        pieces.append(st.tuples(place, place).map(lambda ab: database[min(ab) : max(ab)]))
    text = list(chain(*draw(st.lists(st.one_of(pieces), max_size=4))))
    if draw(st.booleans()):
        database = database * 3
    return text, database, draw(st.sampled_from([1, 2, 3, 7, 16, 64, 200]))


@settings(max_examples=250, deadline=None)
@given(problems())
@example(([0] * 40, [0] * 100, 64))
@example(([0, 1] * 20, [1, 0] * 30, 64))
@example(([0] * 30 + [1], [0] * 29 + [2] + [0] * 5 + [1], 64))
@example(([0, BOUNDARY, 0], [0, BOUNDARY, 0], 64))
@example(([1, 2, 3], [3], 64))
def test_equals_brute_force(problem: tuple[list[int], list[int], int]) -> None:
    text, database, limit = problem
    found = matching_runs(np.array(text, int), np.array(database, int), SPECIAL, limit)
    assert found.tolist() == brute_force(text, database, limit)


@pytest.mark.parametrize("limit", [16, 64, 100])
def test_the_longest_of_many_near_copies_is_found(limit: int) -> None:
    """Copies of a text that each break off somewhere else, upwards or downwards in the order."""
    rng = np.random.default_rng(limit)
    text = rng.integers(1000, 3000, 120)
    copies = np.tile(text, (60, 1))
    place = rng.integers(0, 120, (60, 3))
    copies[np.arange(60)[:, None], place] += rng.choice([-900, 900], (60, 3))
    database = copies.reshape(-1)
    found = matching_runs(text, database, (5000,), limit)
    assert found.tolist() == brute_force(text.tolist(), database.tolist(), limit)


@pytest.mark.parametrize("vocabulary", [2, 30, 3000])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_chunk_runs_equal_dynamic_programming(vocabulary: int, dtype: type) -> None:
    rng = np.random.default_rng(vocabulary)
    database = rng.integers(0, vocabulary, 600)
    chunks = rng.integers(0, vocabulary, (40, 16))
    for row in range(0, 40, 3):  # copies, some of them over two chunks
        start = rng.integers(0, 560)
        flat = chunks.reshape(-1)[row * 16 + 5 : row * 16 + 5 + rng.integers(1, 30)]
        flat[:] = database[start : start + len(flat)]
    special = (vocabulary, vocabulary + 1)
    chunks[[0, 7], 0], chunks[7, 9:], database[::150] = special[1], special[0], special[1]
    chunks, database = chunks.astype(dtype), database.astype(dtype)
    matching = matching_runs(chunks.reshape(-1), database, special, 16)
    expected = longest_common_run(chunks, np.tile(database, (40, 1, 1)), *special)
    assert chunk_runs(matching.reshape(40, 16)).tolist() == expected.tolist()


def test_a_run_does_not_cross_documents_of_either_side() -> None:
    database = np.array([BOUNDARY, 1, 2, BOUNDARY, 3, 4, PAD, PAD, 5])
    text = np.array([BOUNDARY, 1, 2, 3, 4, 5])
    assert matching_runs(text, database, SPECIAL, 64).tolist() == [0, 2, 1, 2, 1, 1]
    joined = np.array([BOUNDARY, 1, 2, BOUNDARY, 3, 4, PAD, PAD])
    assert matching_runs(joined, joined, SPECIAL, 64).tolist() == [0, 2, 1, 0, 2, 1, 0, 0]


def test_a_run_is_cut_at_its_chunk_but_counted_over_the_document() -> None:
    text, database = np.arange(8), np.arange(2, 8)
    matching = matching_runs(text, database, SPECIAL, 8)[None].reshape(2, 4)
    assert matching.tolist() == [[0, 0, 6, 5], [4, 3, 2, 1]]
    assert chunk_runs(matching).tolist() == [2, 4]


def test_nothing_to_compare() -> None:
    none = np.zeros(0, np.uint16)
    assert matching_runs(none, np.arange(3), SPECIAL, 4).tolist() == []
    assert matching_runs(np.arange(3), none, SPECIAL, 4).tolist() == [0, 0, 0]
    assert chunk_runs(np.zeros((0, 4), int)).tolist() == []


def test_covered_tokens_are_those_of_long_runs() -> None:
    matching = np.array([1, 3, 2, 1, 0, 2, 1, 0, 4])
    assert covered(matching, 3).tolist() == [False, True, True, True, *[False] * 4, True]
    assert covered(matching, 1).tolist() == [token > 0 for token in matching]


def write_store(path: Path, documents: list[tuple[str, list[int]]]) -> ChunkStore:
    """A chunk store of M = 4 with these (split, tokens)."""
    rows, document, split = [], [], []
    for number, (part, tokens) in enumerate(documents):
        tokens = [BOUNDARY, *tokens]
        tokens += [PAD] * (-len(tokens) % 4)
        rows += [tokens[i : i + 4] for i in range(0, len(tokens), 4)]
        document += [number] * (len(tokens) // 4)
        split += [("train", "validation", "test").index(part)] * (len(tokens) // 4)
    arrays = {
        "tokens": np.array(rows, np.uint16),
        "token_bytes": np.ones((len(rows), 4), np.uint32),
        "document": np.array(document, np.int32),
        "index": np.zeros(len(rows), np.int32),
        "text_start": np.zeros(len(rows), np.int64),
        "split": np.array(split, np.uint8),
        "first_chunk": np.searchsorted(document, np.arange(len(documents) + 1)).astype(np.int64),
    }
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    meta = f'{{"vocab_size": 10, "boundary_id": {BOUNDARY}, "pad_id": {PAD}}}'
    (path / "meta.json").write_text(meta)
    return ChunkStore.open(path)


PARENT = Stage("chunks", 1, {}, {})


@pytest.mark.parametrize("block", [1, 8, 2**22])
def test_the_stage_finds_runs_of_training_text_alone(tmp_path: Path, block: int) -> None:
    (tmp_path / "chunks").mkdir()
    chunks = write_store(
        tmp_path / "chunks",
        [
            ("test", [1, 2, 3, 4, 5, 6, 7]),
            ("train", [0, 0, 1, 2, 3, 4, 0]),
            ("validation", [1, 2, 3, 4, 5, 6, 7]),
            ("train", [7, 0, 6, 7, 5, 6]),
            ("test", [7]),
        ],
    )
    store = ArtifactStore(tmp_path / "store")
    stage = exact_overlap_stage(PARENT, split="test")
    artifact = store.build(
        stage, lambda w: build_exact_overlap(chunks, w, split="test", block_tokens=block)
    )
    matching = np.load(artifact.file("matching.npy"))
    assert matching.tolist() == [[0, 4, 3, 2], [1, 2, 2, 1], [0, 1, 0, 0]]
    assert matching.dtype == np.uint16
    assert np.load(artifact.file("longest_run.npy")).tolist() == [3, 2, 1]
    assert {path.name for path in artifact.path.glob("*.npy")} == {
        "matching.npy",
        "longest_run.npy",
    }
    assert artifact.stats == {"chunks": 3, "database_chunks": 4, "mean_run": 2.0}


def test_other_splits_are_other_stages() -> None:
    assert exact_overlap_stage(PARENT, split="test").key != (
        exact_overlap_stage(PARENT, split="validation").key
    )

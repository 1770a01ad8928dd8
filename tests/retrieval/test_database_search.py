"""Contract: a search runs over what the store says is searched, for its own chunks only, and never
finds what the store says is the same document; an index that was extended finds what one built at
once finds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    FaissRetrieverConfig,
    RandomRetrieverConfig,
    RetrieverConfig,
)
from retro_lab.retrieval.base import chunk_queries
from retro_lab.retrieval.index_stage import build_index, index_stage
from retro_lab.retrieval.search.registry import load_retriever
from retro_lab.retrieval.table import NeighbourTable, build_neighbours
from retro_lab.store.stage import Stage
from retro_lab.store.workspace import Workspace
from retro_lab.testing.small_world import SmallChunks, bag_of_words

CONFIGS = [FaissRetrieverConfig(), Bm25RetrieverConfig(), RandomRetrieverConfig()]
QUICK = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class JoinedChunks(SmallChunks):
    """A store of which the last documents come from elsewhere.

    Args:
        lengths: chunks of each document.
        foreign: documents from elsewhere, the last ones.
        same: for each document, the one that it is the same as.
        documents: those that are searched.
    """

    def __init__(
        self, lengths: list[int], foreign: int, same: list[int], documents: list[int]
    ) -> None:
        own = len(lengths) - foreign
        super().__init__(lengths, [0, *[n % 3 for n in range(1, own)], *[255] * foreign])
        self._identity = np.array(same, np.int32)[self.document]
        self._searched = np.flatnonzero(np.isin(self.document, documents))
        self._own = int(self.first_chunk[own])

    @property
    def own_chunks(self) -> int:
        return self._own

    @property
    def identity(self) -> np.ndarray:
        return self._identity

    @property
    def searched(self) -> np.ndarray:
        return self._searched


@st.composite
def joined_chunks(draw: st.DrawFn) -> JoinedChunks:
    lengths = draw(st.lists(st.integers(2, 9), min_size=6, max_size=12))
    foreign = draw(st.integers(1, len(lengths) - 4))
    own = len(lengths) - foreign
    same: list[int] = []  # of the run's own, two may be one because of a copy elsewhere
    for document in range(len(lengths)):
        first = [earlier for earlier in same[:own] if same[earlier] == earlier]
        same.append(draw(st.sampled_from([document, *first])))
    chosen = draw(st.sets(st.integers(0, len(lengths) - 1), min_size=3))
    return JoinedChunks(lengths, foreign, same, sorted(chosen))


def index_of(
    chunks: SmallChunks, config: RetrieverConfig, folder: Path, base: Path | None = None
) -> Path:
    vectors = bag_of_words(chunks) if config.needs_embeddings else None
    build_index(config, chunks, vectors, Workspace(folder), base)
    return folder


@QUICK
@given(joined_chunks(), st.sampled_from(CONFIGS))
def test_neighbours_are_searched_chunks_of_other_documents(
    tmp_path_factory: pytest.TempPathFactory, chunks: JoinedChunks, config: RetrieverConfig
) -> None:
    folder = tmp_path_factory.mktemp("table")
    vectors = bag_of_words(chunks) if config.needs_embeddings else None
    index = index_of(chunks, config, folder / "index")
    stats = build_neighbours(config, 4, chunks, vectors, index, Workspace(folder / "table"))
    found = NeighbourTable.open(folder / "table")
    assert found.ids.shape == (chunks.own_chunks, 4)
    assert stats["queries"] == chunks.own_chunks
    here = found.ids >= 0
    assert np.isin(found.ids[here], chunks.searched).all()
    own = chunks.identity[: chunks.own_chunks, None]
    assert not (chunks.identity[found.ids] == own)[here].any()
    if not isinstance(config, Bm25RetrieverConfig):  # which leaves out what shares no token
        possible = (chunks.identity[chunks.searched] != own).sum(axis=1)
        assert np.array_equal(here.sum(axis=1), np.minimum(possible, 4))


def test_packed_windows_ban_copies_too() -> None:
    chunks = JoinedChunks([3, 3, 3, 3, 3], 2, [0, 1, 2, 1, 4], [3, 4])
    ids = np.tile(chunks.searched[None], (chunks.own_chunks, 1))
    table = NeighbourTable(ids.astype(np.int32), np.zeros(ids.shape, np.float32))
    rows = np.arange(chunks.own_chunks)
    packed = np.tile(np.array([[0, 1]]), (len(rows), 1))
    kept = table.select(rows, 3, packed, chunks.identity)
    assert (chunks.document[kept] == 4).all()  # document 3 is a copy of document 1


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@QUICK
@given(st.integers(3, 11), st.sampled_from([None, 12]))
def test_an_exact_index_extended_is_one_built_at_once(
    tmp_path_factory: pytest.TempPathFactory, cut: int, rerank: int | None
) -> None:
    folder = tmp_path_factory.mktemp("extended")
    lengths, same = [4] * 12, list(range(12))
    part = JoinedChunks(lengths, 4, same, list(range(cut)))
    whole = JoinedChunks(lengths, 4, same, list(range(12)))
    config = FaissRetrieverConfig(rerank=rerank)
    base = index_of(part, config, folder / "base")
    assert contents(index_of(whole, config, folder / "extended", base)) == contents(
        index_of(whole, config, folder / "whole")
    )


@pytest.mark.parametrize("factory", ["IVF4,Flat", "IVF4,SQ8", "HNSW8", "SQ8"])
def test_an_extended_index_holds_every_chunk_once(factory: str, tmp_path: Path) -> None:
    lengths, same = [20] * 16, list(range(16))
    part = JoinedChunks(lengths, 4, same, list(range(10)))
    whole = JoinedChunks(lengths, 4, same, list(range(16)))
    config = FaissRetrieverConfig(factory=factory, nprobe=99, ef_search=999)
    base = index_of(part, config, tmp_path / "base")
    before = contents(base)
    retriever = load_retriever(config, index_of(whole, config, tmp_path / "more", base))
    assert contents(base) == before
    queries = chunk_queries(whole, bag_of_words(whole), np.arange(whole.own_chunks))
    found = retriever.candidates(queries, whole.num_chunks)
    assert np.array_equal(np.sort(found.ids, axis=1), np.tile(whole.searched, (len(found.ids), 1)))


def test_keys_name_the_index_that_was_extended() -> None:
    chunks, vectors = Stage("database", 1, {}, {}), Stage("embeddings", 1, {}, {})
    config = FaissRetrieverConfig()
    base = index_stage(config, Stage("chunks", 1, {}, {}), vectors)
    plain = index_stage(config, chunks, vectors)
    assert index_stage(config, chunks, vectors, base).key != plain.key
    others = {"embeddings": vectors, "embeddings more": Stage("embeddings", 1, {"x": 1}, {})}
    assert index_stage(config, chunks, others).key != plain.key
    assert index_stage(replace(config, nprobe=3), chunks, vectors).key == plain.key


def test_a_database_smaller_than_the_table_is_an_error(tmp_path: Path) -> None:
    chunks = JoinedChunks([2] * 6, 2, list(range(6)), [4])
    index = index_of(chunks, RandomRetrieverConfig(), tmp_path / "index")
    with pytest.raises(UserError, match="it has 2 chunks with text"):
        build_neighbours(
            RandomRetrieverConfig(), 5, chunks, None, index, Workspace(tmp_path / "table")
        )

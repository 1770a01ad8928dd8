"""Contract: an index built on disk block by block is, to the byte, the one that FAISS writes; a
killed build goes on behind its last block; no more is in memory than a sample and a block.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import CountingEngine

from retro_lab.config.schema import (
    FaissRetrieverConfig,
    HybridRetrieverConfig,
    RetrieverConfig,
)
from retro_lab.retrieval import table
from retro_lab.retrieval.base import Rows, chunk_queries
from retro_lab.retrieval.index_stage import build_index
from retro_lab.retrieval.search import faiss_blocks
from retro_lab.retrieval.search.exact_search import ExactSearch
from retro_lab.retrieval.search.faiss_blocks import BuildLimits
from retro_lab.retrieval.search.faiss_index import FaissRetriever
from retro_lab.retrieval.search.registry import load_retriever
from retro_lab.store import ArtifactStore, Stage, Workspace
from retro_lab.testing.small_world import SmallChunks, bag_of_words, small_chunks

STAGE = Stage("index", 1, {}, {})
ON_DISK = (
    "Flat",
    "SQ8",
    "SQfp16",
    "PCA16,Flat",
    "IVF{nlist},Flat",
    "IVF16,SQ8",
    "IVF16_HNSW8,Flat",
    "IVF{nlist},PQ{pq}",
    "OPQ{opq},IVF{nlist},PQ{pq}",
)
IN_MEMORY = ("HNSW8", "PQ8x4", "IVF8,PQ12x4fs", "IVF8,PQ4x4,RFlat")
NO_TOKENS = np.empty((0, 0), np.int32)


class Watched(Rows):
    """Notes the most rows that were asked for at once; all of them are never given."""

    def __init__(self, chunks: SmallChunks) -> None:
        self.most = 0
        self.vectors = bag_of_words(chunks)
        super().__init__(chunks.searched, self._gather)

    def _gather(self, ids: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(ids))
        return self.vectors.of(ids)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise AssertionError("everything was asked for at once")


BLOCK = 90
SMALL = BuildLimits(block=BLOCK, sorted_bytes=4000, scanned=70)
SAMPLED = replace(SMALL, sample=300, points=1)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".blocks" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def in_memory(chunks: SmallChunks, config: FaissRetrieverConfig, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    retriever = FaissRetriever(config, limits=SMALL)
    retriever.build(chunks.searched, NO_TOKENS, bag_of_words(chunks).of(chunks.searched))
    retriever.save(folder)
    return contents(folder)


@pytest.mark.parametrize("rerank", [None, 20])
@pytest.mark.parametrize("factory", ON_DISK)
def test_the_file_is_the_one_that_faiss_writes(
    factory: str, rerank: int | None, tmp_path: Path
) -> None:
    chunks, config = small_chunks(), FaissRetrieverConfig(factory=factory, rerank=rerank)
    workspace, rows = Workspace(tmp_path / "disk"), Watched(chunks)
    retriever = FaissRetriever(config, limits=SMALL)
    retriever.build(chunks.searched, NO_TOKENS, rows, workspace)
    assert retriever.file is not None
    retriever.save(workspace.path)
    assert contents(workspace.path) == in_memory(chunks, config, tmp_path / "memory")


@pytest.mark.parametrize("factory", IN_MEMORY)
def test_other_kinds_are_filled_in_memory_from_blocks(factory: str, tmp_path: Path) -> None:
    chunks, config = small_chunks(), FaissRetrieverConfig(factory=factory)
    workspace, retriever = Workspace(tmp_path / "disk"), FaissRetriever(config, limits=SMALL)
    retriever.build(chunks.searched, NO_TOKENS, Watched(chunks), workspace)
    assert retriever.file is None
    retriever.save(workspace.path)
    assert contents(workspace.path) == in_memory(chunks, config, tmp_path / "memory")


@pytest.mark.parametrize("factory", [*ON_DISK, *IN_MEMORY])
def test_no_more_is_read_at_once_than_the_sample_or_a_block(factory: str, tmp_path: Path) -> None:
    rows = Watched(small_chunks())
    retriever = FaissRetriever(FaissRetrieverConfig(factory=factory), limits=SAMPLED)
    chunks = small_chunks()
    retriever.build(chunks.searched, NO_TOKENS, rows, Workspace(tmp_path))
    retriever.save(tmp_path)
    assert len(rows) > 700
    assert rows.most == (BLOCK if factory in ("Flat", "SQfp16", "HNSW8") else 300)


def test_an_index_trained_on_a_sample_finds_most(tmp_path: Path) -> None:
    chunks, config = small_chunks(), FaissRetrieverConfig(factory="IVF8,SQ8", nprobe=8)
    sampled = FaissRetriever(config, limits=SAMPLED)
    sampled.build(chunks.searched, NO_TOKENS, Watched(chunks), Workspace(tmp_path))
    sampled.save(tmp_path)
    queries = chunk_queries(chunks, bag_of_words(chunks), np.arange(chunks.num_chunks))
    found = load_retriever(config, tmp_path).candidates(queries, 10).ids
    truth = ExactSearch(Watched(chunks)).candidates(queries, 10).ids
    assert (found[:, :, None] == truth[:, None]).any(axis=2).mean() > 0.9


def test_a_sample_is_spread_over_the_whole_database() -> None:
    for size, count in ((1000, 1000), (1000, 999), (10**10, 500)):
        places = faiss_blocks._spread(size, count)
        assert len(places) == count
        assert (np.diff(places) > 0).all()
        parts = places * count // size
        assert (np.abs(parts - np.arange(count)) <= 1).all()
    assert (faiss_blocks._spread(7, 7) == np.arange(7)).all()


@pytest.mark.parametrize(
    "config",
    [
        FaissRetrieverConfig(factory="OPQ{opq},IVF{nlist},PQ{pq}"),
        HybridRetrieverConfig(dense=FaissRetrieverConfig(factory="IVF16,SQ8")),
    ],
)
def test_a_killed_build_goes_on_behind_its_last_block(
    config: RetrieverConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chunks = small_chunks()
    caplog.set_level("INFO", "retro_lab")

    def built(name: str, engine: CountingEngine) -> Path:
        vectors = bag_of_words(chunks)
        store = ArtifactStore(tmp_path / name, engine, largest_block=BLOCK)
        return store.build(STAGE, lambda w: build_index(config, chunks, vectors, w)).path

    first, rest = CountingEngine(4), CountingEngine()
    whole = built("whole", CountingEngine())
    with pytest.raises(KeyboardInterrupt):
        built("halves", first)
    resumed = built("halves", rest)
    assert (first.items, rest.items) == (4 * BLOCK, len(chunks.searched) - 4 * BLOCK)
    assert caplog.messages.count("training: 1 index") == 2  # one each
    files, expected = contents(resumed), contents(whole)
    del files["manifest.json"], expected["manifest.json"]
    assert files == expected
    assert not list(resumed.rglob("*lists*"))


def test_a_build_killed_while_it_joins_encodes_nothing_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chunks, config = small_chunks(), FaissRetrieverConfig(factory="IVF16,Flat")
    expected = in_memory(chunks, config, tmp_path / "memory")
    store, vectors = ArtifactStore(tmp_path / "store", CountingEngine()), bag_of_words(chunks)
    caplog.set_level("INFO", "retro_lab")

    def interrupt(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("joining the index"):  # its head is written by then
            raise KeyboardInterrupt
        return True

    log = logging.getLogger("retro_lab")
    log.addFilter(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            store.build(STAGE, lambda w: build_index(config, chunks, vectors, w))
    finally:
        log.removeFilter(interrupt)
    store.engine = CountingEngine(0)
    path = store.build(STAGE, lambda w: build_index(config, chunks, vectors, w)).path
    assert (path / "index.faiss").read_bytes() == expected["index.faiss"]


@pytest.mark.parametrize("k", [3, 40, 2000])
def test_exact_search_without_an_index_finds_what_the_index_finds(k: int) -> None:
    chunks = small_chunks()
    vectors = bag_of_words(chunks)
    flat = FaissRetriever(FaissRetrieverConfig())
    flat.build(chunks.searched, NO_TOKENS, vectors.of(chunks.searched))
    queries = chunk_queries(chunks, vectors, np.arange(0, chunks.num_chunks, 3))
    expected = flat.candidates(queries, k)
    rows = Watched(chunks)
    found = ExactSearch(rows, block=BLOCK).candidates(queries, k)
    size = len(rows)
    np.testing.assert_array_equal(found.ids, expected.ids[:, : found.ids.shape[1]])
    np.testing.assert_array_equal(found.scores, expected.scores[:, : found.ids.shape[1]])
    assert (expected.ids[:, found.ids.shape[1] :] == -1).all()
    assert rows.most <= BLOCK < size


def test_recall_of_a_combined_search_is_against_its_exact_form(tmp_path: Path) -> None:
    chunks, vectors = small_chunks(), bag_of_words(small_chunks())
    recall = {}
    for nprobe in (1, 16):
        dense = FaissRetrieverConfig(factory="IVF16,Flat", nprobe=nprobe)
        config = HybridRetrieverConfig(dense=dense)
        build_index(config, chunks, vectors, Workspace(tmp_path / f"index{nprobe}"))
        stats = table.build_neighbours(
            config,
            10,
            chunks,
            vectors,
            tmp_path / f"index{nprobe}",
            Workspace(tmp_path / f"table{nprobe}"),
        )
        recall[nprobe] = stats["recall_at_10"]
    assert recall[1] < recall[16]
    assert recall[16] > 0.99

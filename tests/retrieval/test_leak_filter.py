"""Contract: with `neighbours.max_run` no neighbour of any split repeats a run of that length of the
chunk and the next one; the next candidates take the freed slots; off, it changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from engines import CountingEngine

from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    ChunkingConfig,
    FaissRetrieverConfig,
    NeighboursConfig,
    RetrieverConfig,
)
from retro_lab.retrieval.base import chunk_queries
from retro_lab.retrieval.filters.exclusion import search_filled
from retro_lab.retrieval.filters.leak_filter import LeakFilter, leak_filter
from retro_lab.retrieval.index_stage import build_index, index_stage
from retro_lab.retrieval.search.registry import load_retriever
from retro_lab.retrieval.table import NeighbourTable, build_neighbours, neighbours_stage
from retro_lab.store.engine import Engine
from retro_lab.store.stage import Artifact, Stage
from retro_lab.store.store import ArtifactStore
from retro_lab.testing.small_world import BOUNDARY, CHUNK, PAD, WORDS, SmallChunks, bag_of_words

CHUNKS, VECTORS = Stage("chunks", 1, {}, {}), Stage("embeddings", 1, {}, {})
MAX_RUN = 5


@cache
def planted() -> SmallChunks:
    """Documents of 8 chunks, 24 train, 4 validation, 4 test; most hold a stretch of another's text
    that lies across a border of chunks.
    """
    chunks = SmallChunks([8] * 32, [0] * 24 + [1] * 4 + [2] * 4, seed=3)
    rng = np.random.default_rng(5)
    for document in range(32):
        text = chunks.tokens[8 * document : 8 * document + 8].reshape(-1)  # a view
        source = chunks.tokens[8 * rng.integers(0, 24) :][:8].reshape(-1)
        here, there = rng.integers(1, 28, 2)
        text[here : here + 12] = source[there : there + 12]
    return chunks


def build(
    root: Path,
    config: RetrieverConfig,
    leak: LeakFilter | None,
    k_store: int = 6,
    engine: Engine | None = None,
) -> tuple[NeighbourTable, Artifact, Path]:
    chunks, store = planted(), ArtifactStore(root, engine, largest_block=100)
    stage, vectors = (VECTORS, bag_of_words(chunks)) if config.needs_embeddings else (None, None)
    indexing = index_stage(config, CHUNKS, stage)
    index = store.build(indexing, lambda w: build_index(config, chunks, vectors, w))
    built = store.build(
        neighbours_stage(config, k_store, CHUNKS, index, stage, leak),
        lambda w: build_neighbours(config, k_store, chunks, vectors, index.path, w, leak),
    )
    return NeighbourTable.open(built.path), built, index.path


def text_of(chunk: int, following: int) -> list[int]:
    """Tokens of a chunk and those behind it in its document; special ones are different holes."""
    chunks = planted()
    end = chunks.first_chunk[chunks.document[chunk] + 1]
    return chunks.tokens[chunk : min(chunk + 1 + following, end)].reshape(-1).tolist()


def grams(text: list[int], length: int) -> set[tuple[int, ...]]:
    windows = [tuple(text[i : i + length]) for i in range(len(text) - length + 1)]
    return {window for window in windows if BOUNDARY not in window and PAD not in window}


def leaks(query: int, neighbour: int, continuation: int) -> bool:
    """Whether they share a run of MAX_RUN tokens, in as few words as possible."""
    return bool(
        grams(text_of(query, 1), MAX_RUN) & grams(text_of(neighbour, continuation), MAX_RUN)
    )


@pytest.mark.parametrize("continuation", [0, 1, 2])
@pytest.mark.parametrize("config", [Bm25RetrieverConfig(), FaissRetrieverConfig()])
def test_no_neighbour_repeats_the_text_and_the_next_move_up(
    config: RetrieverConfig, continuation: int, tmp_path: Path
) -> None:
    chunks = planted()
    found, artifact, index = build(tmp_path, config, LeakFilter(MAX_RUN, continuation))
    ids = np.arange(chunks.num_chunks)
    vectors = bag_of_words(chunks) if config.needs_embeddings else None
    every = search_filled(
        load_retriever(config, index), chunk_queries(chunks, vectors, ids), 192, chunks.document
    )
    dropped = 0
    for row in range(chunks.num_chunks):
        ranked = [chunk for chunk in every.ids[row].tolist() if chunk >= 0]
        kept = [chunk for chunk in ranked if not leaks(row, chunk, continuation)]
        dropped += len(set(ranked[:6]) - set(kept))
        assert found.ids[row].tolist() == (kept + [-1] * 6)[:6]
    assert dropped > 50
    assert 0 < artifact.stats["refused"] < 0.5
    for split, code in (("train", 0), ("validation", 1), ("test", 2)):
        share = found.ids[chunks.split == code] >= 0
        assert artifact.stats["coverage"][split] == pytest.approx(share.mean())
        assert share.mean() > 0.95  # over-fetched: slots are filled, not left as holes


def test_recall_is_measured_under_the_same_filter(tmp_path: Path) -> None:
    config = FaissRetrieverConfig(factory="IVF4,Flat", nprobe=4)  # all lists: exact
    _, artifact, _ = build(tmp_path, config, LeakFilter(MAX_RUN, 1), 10)
    assert artifact.stats["recall_at_10"] > 0.99


def test_an_interrupted_search_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    config, leak = Bm25RetrieverConfig(), LeakFilter(MAX_RUN, 1)
    _, whole, _ = build(tmp_path / "whole", config, leak)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "halves", config, leak, engine=CountingEngine(1))
    _, resumed, _ = build(tmp_path / "halves", config, leak, engine=(rest := CountingEngine()))
    assert rest.items == planted().num_chunks - 100
    assert resumed.file("ids.npy").read_bytes() == whole.file("ids.npy").read_bytes()


def test_it_enters_the_key_only_when_set() -> None:
    config, chunking = Bm25RetrieverConfig(), ChunkingConfig()
    index = index_stage(config, CHUNKS, None)

    def key(max_run: int | None, chunking: ChunkingConfig = chunking) -> str:
        leak = leak_filter(NeighboursConfig(max_run=max_run), chunking)
        return neighbours_stage(config, 8, CHUNKS, index, None, leak).key

    plain = neighbours_stage(config, 8, CHUNKS, index, None).key
    longer = replace(chunking, continuation_chunks=2)
    assert key(None) == key(None, longer) == plain
    assert len({key(32), key(16), key(32, longer), plain}) == 4


def test_a_run_across_the_border_of_chunks_counts_whole() -> None:
    chunks = SmallChunks([2, 2, 2], [0, 0, 0])
    chunks.tokens[:] = np.arange(6 * CHUNK).reshape(6, CHUNK) % WORDS
    chunks.tokens[2] = chunks.tokens[[0, 0, 0, 1, 1, 1], [3, 4, 5, 0, 1, 2]]  # 3 of each
    passes = LeakFilter(6, 0).of(chunks)
    assert passes(np.array([0, 0, 1, 3]), np.array([2, 4, 2, 2])).tolist() == [
        False,
        True,
        True,
        True,
    ]
    assert LeakFilter(7, 0).of(chunks)(np.array([0]), np.array([2])).all()


@pytest.mark.parametrize("at_once", [8, 2**13])
@pytest.mark.parametrize("continuation", [0, 1])
def test_any_pairs_may_be_asked_about_again_and_again(continuation: int, at_once: int) -> None:
    """Those of one document, and of texts that were kept from a round before, or weren't."""
    passes = LeakFilter(MAX_RUN, continuation).of(planted(), at_once=at_once)
    rng = np.random.default_rng(0)
    for count, chunks in ((300, 40), (100, 40), (100, 60), (60, 256), (1, 256), (0, 256)):
        queries, ids = rng.integers(0, chunks, (2, count))
        ids[: count // 4] = np.minimum(queries[: count // 4] + rng.integers(0, 2), 255)
        expected = [
            not leaks(query, found, continuation) for query, found in zip(queries, ids, strict=True)
        ]
        assert passes(queries, ids).tolist() == expected
        assert count < 60 or len(set(expected)) == 2

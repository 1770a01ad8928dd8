"""Contract: the neighbour table holds, for every chunk of every split, neighbours from training
documents other than its own; it resumes to the same bytes; keys hold what changes content.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines import CountingEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    FaissRetrieverConfig,
    RandomRetrieverConfig,
    RetrieverConfig,
)
from retro_lab.retrieval.index_stage import build_index, index_stage
from retro_lab.retrieval.table import (
    NeighbourTable,
    build_neighbours,
    check_coverage,
    neighbours_stage,
)
from retro_lab.store.engine import Engine
from retro_lab.store.stage import Artifact, Stage
from retro_lab.store.store import ArtifactStore
from retro_lab.testing.small_world import SmallChunks, bag_of_words, small_chunks

CHUNKS = Stage("chunks", 1, {}, {})
VECTORS = Stage("embeddings", 1, {}, {})
CONFIGS = [FaissRetrieverConfig(), Bm25RetrieverConfig(), RandomRetrieverConfig()]


def build(
    root: Path,
    chunks: SmallChunks,
    config: RetrieverConfig,
    k_store: int = 6,
    engine: Engine | None = None,
) -> tuple[NeighbourTable, Artifact]:
    store = ArtifactStore(root, engine, largest_block=250)
    dense = config.needs_embeddings
    stage, vectors = (VECTORS, bag_of_words(chunks)) if dense else (None, None)
    indexing = index_stage(config, CHUNKS, stage)
    index = store.build(indexing, lambda w: build_index(config, chunks, vectors, w))
    built = store.build(
        neighbours_stage(config, k_store, CHUNKS, index, stage),
        lambda w: build_neighbours(config, k_store, chunks, vectors, index.path, w),
    )
    return NeighbourTable.open(built.path), built


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_neighbours_are_training_chunks_of_other_documents(
    config: RetrieverConfig, tmp_path: Path
) -> None:
    chunks = small_chunks()
    found, artifact = build(tmp_path, chunks, config)
    here = found.ids >= 0
    assert found.ids.shape == (chunks.num_chunks, 6)
    assert (found.ids.dtype, found.scores.dtype) == (np.int32, np.float32)
    assert np.isin(found.ids[here], chunks.searched).all()
    assert not (chunks.document[found.ids] == chunks.document[:, None])[here].any()
    for split, code in (("train", 0), ("validation", 1), ("test", 2)):
        share = here[chunks.split == code]
        assert artifact.stats["coverage"][split] == pytest.approx(share.mean())
        assert artifact.stats["filled"][split] == pytest.approx(share.mean(axis=0).tolist())
    assert artifact.stats["recall_at_10"] is None


def test_chunks_without_text_are_not_in_the_database() -> None:
    chunks = small_chunks()
    ids = chunks.searched
    assert 0 not in ids  # the empty document
    assert len(ids) == (chunks.split == 0).sum() - 1
    assert (chunks.split[ids] == 0).all()


def test_an_interrupted_search_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    chunks, config = small_chunks(), Bm25RetrieverConfig()
    _, whole = build(tmp_path / "whole", chunks, config)
    first, rest = CountingEngine(2), CountingEngine()
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "halves", chunks, config, engine=first)
    _, resumed = build(tmp_path / "halves", chunks, config, engine=rest)
    assert first.items == 500
    assert first.items + rest.items == chunks.num_chunks
    for name in ("ids.npy", "scores.npy"):
        assert resumed.file(name).read_bytes() == whole.file(name).read_bytes()


def test_an_approximate_search_reports_its_recall(tmp_path: Path) -> None:
    chunks = small_chunks()
    stats = {
        nprobe: build(
            tmp_path, chunks, FaissRetrieverConfig(factory="IVF16,Flat", nprobe=nprobe), 10
        )[1].stats
        for nprobe in (1, 16)
    }
    assert 0.1 < stats[1]["recall_at_10"] < 0.9 < stats[16]["recall_at_10"] <= 1


def test_more_stored_neighbours_than_chunks_is_the_users_error(tmp_path: Path) -> None:
    chunks = SmallChunks([3, 4, 2, 5], [0, 0, 0, 1])
    with pytest.raises(UserError, match=r"neighbours\.k_store=16 .* 9 chunks") as caught:
        build(tmp_path, chunks, RandomRetrieverConfig(), 16)
    assert "k_store=9" in str(caught.value.fix)


def test_a_large_document_leaves_slots_empty_and_coverage_says_so(tmp_path: Path) -> None:
    chunks = SmallChunks([12, 3, 4], [0, 0, 1])
    found, artifact = build(tmp_path, chunks, RandomRetrieverConfig(), 5)
    big = found.ids[:12]
    assert (np.sort(big, axis=1) == [-1, -1, 12, 13, 14]).all()
    assert (big[:, 3:] == -1).all()
    filled = artifact.stats["filled"]
    assert filled["train"] == pytest.approx([1, 1, 1, 0.2, 0.2])
    check_coverage(artifact.stats, k=3, min_coverage=0.99)
    with pytest.raises(UserError, match=r"only 68\.0% of the train .* k=5, .*min_coverage=0\.9"):
        check_coverage(artifact.stats, k=5, min_coverage=0.9)


def test_only_what_changes_an_index_enters_its_key() -> None:
    def index(config: RetrieverConfig) -> str:
        return index_stage(config, CHUNKS, VECTORS if config.needs_embeddings else None).key

    dense, lexical, chance = CONFIGS
    assert index(replace(dense, name="x", nprobe=9, ef_search=9)) == index(dense)
    assert index(replace(dense, factory="HNSW32")) != index(dense)
    assert index(replace(chance, seed=9)) == index(chance)
    assert index(replace(lexical, b=0.1)) != index(lexical)
    assert len({index(config) for config in CONFIGS}) == 3


def test_what_changes_a_search_enters_the_key_of_its_table() -> None:
    def key(config: RetrieverConfig, k_store: int = 8) -> str:
        stage = VECTORS if config.needs_embeddings else None
        index = index_stage(config, CHUNKS, stage)
        return neighbours_stage(config, k_store, CHUNKS, index, stage).key

    dense, lexical, chance = CONFIGS
    assert key(replace(dense, name="x")) == key(dense)
    assert key(replace(dense, nprobe=9)) != key(dense)
    assert key(replace(chance, seed=9)) != key(chance)
    assert key(lexical, 9) != key(lexical)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_select_is_the_first_k_outside_the_banned_documents(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    document = np.sort(rng.integers(0, 6, 30)).astype(np.int32)
    ids = rng.integers(-1, 30, (20, 7)).astype(np.int32)
    found = NeighbourTable(ids, np.zeros(ids.shape, np.float32))
    rows = rng.integers(0, 20, data.draw(st.integers(0, 9)))
    k = data.draw(st.integers(1, 7))
    banned = rng.integers(-1, 6, (len(rows), data.draw(st.integers(1, 4))))
    selected = found.select(rows, k, banned, document)
    assert selected.dtype == np.int64
    for row, bans, out in zip(rows, banned.tolist(), selected.tolist(), strict=True):
        kept = [i for i in ids[row].tolist() if i >= 0 and document[i] not in bans][:k]
        assert out == kept + [-1] * (k - len(kept))


def test_selecting_more_than_is_stored_is_refused() -> None:
    found = NeighbourTable(np.zeros((1, 2), np.int32), np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="k=3"):
        found.select(np.array([0]), 3, np.array([[-1]]), np.array([0]))

"""Contract: similarities are those of the n-gram sets, counted one by one; what is dropped is what
reading the candidates in order would drop; k survive wherever so many candidates allow it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retro_lab.config.schema import Bm25RetrieverConfig, NeighboursConfig, RandomRetrieverConfig
from retro_lab.retrieval.base import chunk_queries, text_tokens
from retro_lab.retrieval.filters.exclusion import PairFilter, search_filled
from retro_lab.retrieval.filters.near_duplicates import (
    NearDuplicates,
    jaccard_within,
    near_duplicates,
)
from retro_lab.retrieval.index_stage import build_index
from retro_lab.retrieval.search.registry import build_retriever
from retro_lab.retrieval.table import NeighbourTable, build_neighbours, neighbours_stage
from retro_lab.store.stage import Stage
from retro_lab.store.workspace import Workspace
from retro_lab.testing.small_world import PAD, SmallChunks

QUICK = settings(deadline=None, max_examples=40)
THRESHOLDS = st.sampled_from([None, 0.2, 0.5, 1.0])


def world(alphabet: int, seed: int, documents: int = 9) -> SmallChunks:
    """Few words, so that n-grams repeat within chunks and between them; some chunks are short."""
    chunks = SmallChunks([4] * documents, [0] * documents, seed=seed)
    rng = np.random.default_rng(seed)
    text = chunks.tokens < PAD - 1
    chunks.tokens[text] = rng.integers(0, alphabet, text.sum())
    return chunks


def grams(chunks: SmallChunks, chunk: int, n: int) -> set[tuple[int, ...]]:
    if chunk < 0:
        return set()
    row = text_tokens(chunks.tokens[chunk], chunks.pad_id, chunks.boundary_id).tolist()
    return {tuple(row[i : i + n]) for i in range(len(row) - n + 1) if -1 not in row[i : i + n]}


def likeness(chunks: SmallChunks, a: int, b: int, n: int) -> float:
    ours, theirs = grams(chunks, a, n), grams(chunks, b, n)
    return float(np.float32(len(ours & theirs) / max(1, len(ours | theirs))))


@QUICK
@given(st.integers(1, 4), st.integers(0, 99), st.integers(1, 7), st.integers(1, 9))
def test_similarity_is_that_of_the_sets(alphabet: int, seed: int, n: int, members: int) -> None:
    chunks = world(alphabet, seed)
    rows = np.random.default_rng(seed).integers(-1, chunks.num_chunks, (5, members))
    found = jaccard_within(rows, chunks, n)
    for row in range(5):
        for a in range(members):
            for b in range(a + 1, members):
                assert found[row, a, b] == likeness(chunks, rows[row, a], rows[row, b], n)


def in_order(
    chunks: SmallChunks,
    query: int,
    candidates: list[int],
    k: int,
    filters: NearDuplicates,
    passes: PairFilter | None,
) -> list[int]:
    """The candidates read one by one."""
    kept: list[int] = []
    for chunk in candidates:
        if passes is not None and not passes(np.array([query]), np.array([chunk]))[0]:
            continue
        like_query = likeness(chunks, query, chunk, filters.ngram)
        if filters.of_query is not None and like_query >= filters.of_query:
            continue
        like = [likeness(chunks, better, chunk, filters.ngram) for better in kept]
        if filters.of_better is not None and any(one >= filters.of_better for one in like):
            continue
        kept.append(chunk)
    return (kept + [-1] * k)[:k]


@QUICK
@given(st.integers(1, 4), st.integers(0, 99), THRESHOLDS, THRESHOLDS, st.booleans())
def test_neighbours_are_those_of_a_reader_in_order(
    alphabet: int, seed: int, of_query: float | None, of_better: float | None, odd_only: bool
) -> None:
    chunks, k = world(alphabet, seed), 5
    filters = NearDuplicates(of_query, of_better, ngram=2)
    retriever = build_retriever(RandomRetrieverConfig(seed=seed))
    retriever.build(chunks.searched, chunks.tokens[chunks.searched].astype(np.int32), None)
    queries = chunk_queries(chunks, None, np.arange(chunks.num_chunks))
    passes = (lambda _, ids: ids % 2 == 1) if odd_only else None
    found = search_filled(retriever, queries, k, chunks.identity, passes, filters.of(chunks))
    everything = search_filled(retriever, queries, chunks.num_chunks, chunks.identity)
    for query, row in enumerate(found.ids.tolist()):
        candidates = [int(c) for c in everything.ids[query] if c >= 0]
        assert row == in_order(chunks, query, candidates, k, filters, passes)


def test_the_table_fills_and_says_what_was_dropped(tmp_path: Path) -> None:
    chunks, config = world(30, 1, documents=40), Bm25RetrieverConfig()
    chunks.tokens[20:24] = chunks.tokens[8:12]  # copies of a document
    build_index(config, chunks, None, Workspace(tmp_path / "index"))
    filters, tables = near_duplicates(NeighboursConfig(max_jaccard=0.8, dedup=0.8)), {}
    assert filters is not None
    filters = dataclasses.replace(filters, ngram=2)
    for name, similar in (("all", None), ("filtered", filters)):
        stats = build_neighbours(
            config, 4, chunks, None, tmp_path / "index", Workspace(tmp_path / name), similar=similar
        )
        tables[name] = NeighbourTable.open(tmp_path / name).ids
    assert tables["all"][8, 0] == 20
    assert not np.isin(tables["filtered"][8], np.arange(20, 24)).any()
    assert (tables["filtered"] >= 0).all()
    assert stats["filled"]["train"] == [1.0] * 4
    assert 0 < stats["near_duplicates"]["like_query"] < 0.2
    assert 0 < stats["near_duplicates"]["like_better"] < 0.3


def test_a_filter_that_is_off_leaves_the_key() -> None:
    chunks, index = Stage("chunks", 1, {}, {}), Stage("index", 1, {}, {})

    def key(**settings: float) -> str:
        similar = near_duplicates(NeighboursConfig(**settings))  # type: ignore[arg-type]
        return neighbours_stage(Bm25RetrieverConfig(), 4, chunks, index, None, None, similar).key

    plain = neighbours_stage(Bm25RetrieverConfig(), 4, chunks, index, None).key
    assert key() == plain
    keys = [key(max_jaccard=0.8), key(dedup=0.8), key(dedup=0.7), key(max_jaccard=0.8, dedup=0.8)]
    assert len({plain, *keys}) == 5


@pytest.mark.parametrize("blocks", [1, 100, 2**22])
def test_blocks_change_nothing(blocks: int) -> None:
    chunks = world(3, 5)
    queries = np.arange(chunks.num_chunks)
    ids = np.random.default_rng(2).integers(-1, chunks.num_chunks, (len(queries), 6))
    filters = NearDuplicates(0.5, 0.5, ngram=2)
    expected = filters.of(chunks)(queries, ids)
    again = filters.of(chunks, block_bytes=blocks)
    assert np.array_equal(again(queries, ids), expected)
    assert again.like_query + again.like_better == expected.sum() > 0

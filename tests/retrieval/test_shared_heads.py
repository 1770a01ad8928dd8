"""Contract: files that begin with one text get the neighbours that a slow search by the definition
gives them, and a filter that refuses nearly everything is asked in few turns.
"""

from __future__ import annotations

import numpy as np
import pytest

from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    FaissRetrieverConfig,
    RetrieverConfig,
)
from retro_lab.retrieval.base import Neighbours, Queries, chunk_queries, text_tokens
from retro_lab.retrieval.filters.exclusion import MARGIN, search_filled
from retro_lab.retrieval.filters.leak_filter import LeakFilter
from retro_lab.retrieval.filters.near_duplicates import NearDuplicates
from retro_lab.retrieval.search.registry import build_retriever
from retro_lab.testing.small_world import (
    BOUNDARY,
    CHUNK,
    PAD,
    SmallChunks,
    bag_of_words,
    make_queries,
)

MAX_RUN, K, DOCUMENTS, LENGTH = 5, 4, 150, 6


def licensed() -> SmallChunks:
    """Documents of six chunks; the first two and a half of most are one of two heads."""
    chunks = SmallChunks([LENGTH] * DOCUMENTS, [0] * DOCUMENTS, seed=11)
    head = chunks.tokens[: 2 * LENGTH].reshape(2, -1)[:, : 2 * CHUNK + 3].copy()
    for document in range(DOCUMENTS - 10):
        rows = chunks.tokens[LENGTH * document : LENGTH * (document + 1)].reshape(-1)  # a view
        rows[: head.shape[1]] = head[int(document % 3 == 0)]
    return chunks


def windows(chunks: SmallChunks, chunk: int, following: int) -> set[tuple[int, ...]]:
    """Runs of MAX_RUN tokens of a chunk and those behind it in its document."""
    end = chunks.first_chunk[chunks.document[chunk] + 1]
    text = chunks.tokens[chunk : min(chunk + 1 + following, end)].reshape(-1).tolist()
    found = {tuple(text[i : i + MAX_RUN]) for i in range(len(text) - MAX_RUN + 1)}
    return {window for window in found if BOUNDARY not in window and PAD not in window}


@pytest.mark.parametrize("config", [Bm25RetrieverConfig(), FaissRetrieverConfig()])
def test_neighbours_are_those_of_the_definition(config: RetrieverConfig) -> None:
    chunks = licensed()
    ids = np.arange(len(chunks.tokens))
    vectors = bag_of_words(chunks) if config.needs_embeddings else None
    retriever = build_retriever(config)
    tokens = text_tokens(chunks.tokens, PAD, BOUNDARY)
    retriever.build(ids, tokens, None if vectors is None else vectors.of(ids))
    queries = chunk_queries(chunks, vectors, ids)
    every = search_filled(retriever, queries, len(ids), chunks.identity).ids
    asks = [windows(chunks, chunk, 1) for chunk in ids]  # the chunk and what is to be predicted
    read = [windows(chunks, chunk, 1) for chunk in ids]  # a neighbour and its continuation
    found = search_filled(retriever, queries, K, chunks.identity, LeakFilter(MAX_RUN, 1).of(chunks))
    refused = 0
    for row in ids:
        ranked = [chunk for chunk in every[row].tolist() if chunk >= 0]
        kept = [chunk for chunk in ranked if asks[row].isdisjoint(read[chunk])]
        refused = max(refused, len(ranked[: ranked.index(kept[0])]))
        assert found.ids[row].tolist() == kept[:K]
    assert refused > K + MARGIN  # some rows were fetched again


class Ranked:
    """Everybody's best are chunks 0, 1, 2, ..."""

    needs_embeddings = False
    exact = True

    def __init__(self, size: int) -> None:
        self.size = size

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        found = Neighbours.empty(len(queries.tokens), k)
        count = min(k, self.size)
        found.ids[:, :count] = np.arange(count)
        found.scores[:, :count] = -np.arange(count)
        return found


@pytest.mark.parametrize("size", [1000, 8000])
def test_a_filter_that_refuses_nearly_all_is_asked_in_few_turns(size: int) -> None:
    calls: list[int] = []

    def only_the_last(query_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
        calls.append(len(ids))
        return ids >= size - 9

    queries = make_queries(np.zeros((3, 2), int))
    document = np.arange(size)
    found = search_filled(Ranked(size), queries, K, document, only_the_last)  # type: ignore[arg-type]
    assert found.ids.tolist() == [[size - 9, size - 8, size - 7, size - 6]] * 3
    fetches = int(np.ceil(np.log2(size / (K + MARGIN)))) + 1
    assert len(calls) <= 6 + 2 * fetches  # the first fetch doubles its turns, later ones take two
    assert sum(calls) <= 3 * 5 * size


def test_any_refusals_leave_the_first_that_pass() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        size, rows = int(rng.integers(1, 400)), 5
        allowed = rng.random((rows, size)) < rng.choice([0.02, 0.3, 0.95])
        queries = make_queries(np.zeros((rows, 2), int))
        found = search_filled(
            Ranked(size),  # type: ignore[arg-type]
            queries,
            K,
            np.arange(size),
            lambda query_ids, ids, allowed=allowed: allowed[query_ids, ids],
        )
        for row in range(rows):
            kept = np.flatnonzero(allowed[row])[:K].tolist()
            assert found.ids[row].tolist() == kept + [-1] * (K - len(kept))


def test_both_filters_together_leave_what_each_leaves_in_turn() -> None:
    """Near-copies of better neighbours are dropped among those that do not leak."""
    chunks = licensed()
    ids = np.arange(0, len(chunks.tokens), 5)
    retriever = build_retriever(Bm25RetrieverConfig())
    retriever.build(np.arange(len(chunks.tokens)), text_tokens(chunks.tokens, PAD, BOUNDARY), None)
    queries = chunk_queries(chunks, None, ids)
    repeats = NearDuplicates(None, 0.5, ngram=2).of(chunks)
    found = search_filled(
        retriever, queries, K, chunks.identity, LeakFilter(MAX_RUN, 1).of(chunks), repeats
    ).ids
    every = search_filled(retriever, queries, len(chunks.tokens), chunks.identity).ids
    texts = [windows(chunks, chunk, 1) for chunk in range(len(chunks.tokens))]
    pairs = [{tuple(row[i : i + 2]) for i in range(CHUNK - 1)} for row in chunks.tokens.tolist()]
    pairs = [{p for p in found if not {BOUNDARY, PAD} & set(p)} for found in pairs]
    for row, query in enumerate(ids):
        kept: list[int] = []
        for chunk in every[row][every[row] >= 0].tolist():
            alike = [
                len(pairs[chunk] & pairs[other]) / max(1, len(pairs[chunk] | pairs[other]))
                for other in kept
            ]
            if texts[query].isdisjoint(texts[chunk]) and max(alike, default=0) < 0.5:
                kept.append(chunk)
            if len(kept) == K:
                break
        assert found[row].tolist() == kept + [-1] * (K - len(kept))

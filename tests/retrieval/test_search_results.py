"""Contract: exact searches find what a few lines of arithmetic find, copies and ties included, and
approximate ones most of it.
"""

from __future__ import annotations

import logging
from typing import Any

import bm25s
import numpy as np
import pytest

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Bm25RetrieverConfig, FaissRetrieverConfig
from retro_lab.retrieval.base import Neighbours, Queries
from retro_lab.retrieval.search.bm25 import Bm25Retriever
from retro_lab.retrieval.search.faiss_factory import check_factory, fill_factory
from retro_lab.retrieval.search.faiss_index import FaissRetriever
from retro_lab.retrieval.search.lexical import CHUNK_BLOCK
from retro_lab.retrieval.search.ranking import sort_rows
from retro_lab.testing.small_world import bag_of_words, make_queries, small_chunks


def dense_queries(vectors: np.ndarray) -> Queries:
    zeros = np.zeros(len(vectors), np.int64)
    return Queries(zeros[:, None], vectors.astype(np.float32), zeros, zeros)


def faiss_of(vectors: np.ndarray, factory: str, ids: np.ndarray | None = None) -> FaissRetriever:
    retriever = FaissRetriever(FaissRetrieverConfig(factory=factory))
    ids = np.arange(len(vectors)) if ids is None else ids
    retriever.build(ids, np.zeros((len(vectors), 1), np.int32), vectors)
    return retriever


def test_flat_search_is_the_inner_product_in_order() -> None:
    vectors = bag_of_words(small_chunks()).vectors
    ids = 3 * np.arange(len(vectors)) + 1
    found = faiss_of(vectors, "Flat", ids).candidates(dense_queries(vectors), 12)
    wide = vectors.astype(np.float64)
    scores = np.round(wide @ wide.T, 6)  # equal vectors tie, whatever the sum's order
    expected = sort_rows(Neighbours(np.broadcast_to(ids, scores.shape), scores))
    np.testing.assert_allclose(found.scores, expected.scores[:, :12], atol=2e-6)
    distinct = (np.diff(expected.scores[:, :13]) < -1e-4).all(axis=1)
    assert distinct.sum() > 20
    np.testing.assert_array_equal(found.ids[distinct], expected.ids[distinct, :12])


class Capricious:
    """A flat index as FAISS may legally be: last bits that vary from call to call, ties in any
    order, and of a tie that doesn't fit into k, any members."""

    def __init__(self, index: Any) -> None:
        self._index, self._rng = index, np.random.default_rng(0)
        self.compute_distance_subset = index.compute_distance_subset

    def search(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, ids = self._index.search(vectors, self._index.ntotal)
        scores = (scores + self._rng.uniform(-5e-7, 5e-7, scores.shape)).astype(np.float32)
        order = np.argsort(-scores, axis=1)[:, :k]
        kept = (np.take_along_axis(part, order, axis=1) for part in (scores, ids))
        return tuple(np.ascontiguousarray(part) for part in kept)  # type: ignore[return-value]


@pytest.mark.parametrize("k", [1, 5, 60])
def test_a_tie_longer_than_the_fetch_is_cut_at_the_lowest_ids(k: int) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((400, 24))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    copies = np.arange(37, 400, 3)
    vectors[copies] = vectors[0]
    retriever = faiss_of(vectors, "Flat")
    plain = retriever.candidates(dense_queries(vectors[:30]), k)
    assert plain.ids[0].tolist() == [0, *copies[: k - 1].tolist()]
    assert len(np.unique(plain.scores[0])) == 1
    retriever.index = Capricious(retriever.index)
    for _ in range(2):
        found = retriever.candidates(dense_queries(vectors[:30]), k)
        np.testing.assert_array_equal(found.ids, plain.ids)
        np.testing.assert_array_equal(found.scores, plain.scores)


@pytest.mark.parametrize(("factory", "least"), [("HNSW32", 0.95), ("IVF{nlist},PQ{pq}", 0.35)])
def test_approximate_search_finds_most_of_the_exact(factory: str, least: float) -> None:
    vectors = np.unique(bag_of_words(small_chunks()).vectors, axis=0)
    queries = dense_queries(vectors[::7])
    exact, found = (faiss_of(vectors, f).candidates(queries, 10).ids for f in ("Flat", factory))
    hits = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])
    assert hits >= least


def test_search_options_reach_faiss() -> None:
    vectors = bag_of_words(small_chunks()).vectors
    few, all_ = (
        FaissRetriever(FaissRetrieverConfig(factory="IVF16,Flat", nprobe=n)) for n in (1, 16)
    )
    for retriever in (few, all_):
        retriever.build(np.arange(len(vectors)), np.zeros((len(vectors), 1)), vectors)
    exact = faiss_of(vectors, "Flat")
    a, b, c = (r.candidates(dense_queries(vectors), 10).ids for r in (few, all_, exact))
    assert (b == c).mean() > (a == c).mean() + 0.1
    assert (b == c).mean() > 0.95
    assert not few.exact
    assert exact.exact


def test_reranking_scores_exactly_and_finds_more() -> None:
    vectors = np.unique(bag_of_words(small_chunks()).vectors, axis=0)
    queries = dense_queries(vectors[::7])
    exact = faiss_of(vectors, "Flat").candidates(queries, 10)
    found, hits = {}, {}
    for rerank in (None, 60):
        config = FaissRetrieverConfig(factory="OPQ{opq},IVF4,PQ{pq}", nprobe=4, rerank=rerank)
        retriever = FaissRetriever(config)
        retriever.build(np.arange(len(vectors)), np.zeros((len(vectors), 1)), vectors)
        found[rerank] = retriever.candidates(queries, 90)
        both = zip(exact.ids, found[rerank].ids[:, :10], strict=True)
        hits[rerank] = np.mean([len(set(a) & set(b)) / 10 for a, b in both])
    assert hits[60] > hits[None] + 0.1
    ids = found[60].ids[:, :60]
    wide = vectors.astype(np.float64)
    products = (wide[ids] * wide[::7][:, None]).sum(axis=-1)
    np.testing.assert_allclose(found[60].scores[:, :60], products, atol=1e-6)
    np.testing.assert_array_equal(found[60].ids[:, 60:], found[None].ids[:, 60:])


@pytest.mark.parametrize(
    ("factory", "width"), [("IVF16,SQ8", 384), ("OPQ4,IVF16,PQ4x4", 96), ("PCA40,PQ8x4", 384)]
)
def test_what_is_searched_beside_a_query_changes_nothing(factory: str, width: int) -> None:
    """FAISS alone gives other last bits for other batches, of centroids from a width of 384 on."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    retriever, queries = faiss_of(vectors, factory), dense_queries(vectors[:400])
    whole = retriever.candidates(queries, 10)
    for size in (1, 30):
        parts = [
            retriever.candidates(queries.take(slice(at, at + size)), 10)
            for at in range(0, 400, size)
        ]
        np.testing.assert_array_equal(np.concatenate([p.scores for p in parts]), whole.scores)
        np.testing.assert_array_equal(np.concatenate([p.ids for p in parts]), whole.ids)


def test_a_rotated_index_is_what_faiss_makes_of_it() -> None:
    vectors = np.random.default_rng(0).standard_normal((600, 24)).astype(np.float32)
    for factory in ("OPQ4,IVF8,Flat", "PCAR12,Flat", "OPQ4,PQ4x4", "L2norm,IVF4,Flat"):
        retriever = faiss_of(vectors, factory)
        found = retriever.candidates(dense_queries(vectors[:50]), 5)
        scores, ids = retriever.index.search(vectors[:50], 5)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-4)
        assert (found.ids == ids).mean() > 0.98
        assert retriever.index.ntotal == 600


@pytest.mark.parametrize(
    ("size", "width", "filled"),
    [
        (20_000, 384, "IVF512,PQ48x8"),
        (1_000_000, 384, "IVF4096,PQ48x8"),
        (5_000, 256, "IVF128,PQ32x7"),
        (700, 48, "IVF16,PQ6x4"),
        (9, 7, "IVF1,PQ1x4"),
    ],
)
def test_factory_sizes_follow_from_the_corpus(size: int, width: int, filled: str) -> None:
    assert fill_factory("IVF{nlist},PQ{pq}", size, width) == filled
    rotated = f"OPQ{filled.split('PQ')[1].split('x')[0]},{filled}"
    assert fill_factory("OPQ{opq},IVF{nlist},PQ{pq}", size, width) == rotated


def test_factory_sizes_can_be_given() -> None:
    factory = "OPQ{opq},IVF{nlist},PQ{pq}"
    assert fill_factory(factory, 20_000, 384, nlist=100, pq=16) == "OPQ16,IVF100,PQ16x8"
    vectors = np.random.default_rng(0).standard_normal((700, 24))
    config = FaissRetrieverConfig(factory="IVF{nlist},PQ{pq}", nlist=7, pq=6)
    retriever = FaissRetriever(config)
    facts = retriever.build(np.arange(700), np.zeros((700, 1)), vectors)
    assert facts == {"factory": "IVF7,PQ6x4"}
    assert retriever.index.nlist == 7


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("IVF64,Flat", "at least 64 chunks .* there are 50"),
        ("IVF4,PQ4x8", "at least 256 chunks"),
        ("PQ4", "at least 256 chunks"),
        ("OPQ4,PQ4", "at least 256 chunks"),
        ("OPQ4,IVF64,Flat", "at least 64 chunks"),
        ("PQ5", "multiple of the number of subquantizers"),
        ("PCA60,Flat", "FAISS can't index"),
        ("Sorcery", "could not parse"),
        ("IVF{lists},Flat", r"unknown placeholder at '\{lists\}"),
    ],
)
def test_what_faiss_would_assert_is_the_users_error(factory: str, says: str) -> None:
    with pytest.raises(UserError, match=rf"retriever\.factory={factory[:3]}.*{says}") as caught:
        faiss_of(np.random.default_rng(0).standard_normal((50, 24)), factory)
    assert caught.value.fix

    with pytest.raises(UserError, match=says):  # found out without vectors just the same
        check_factory(FaissRetrieverConfig(factory=factory), 50, 24)


@pytest.mark.parametrize("factory", ["PQ12x4fs", "IVF4,PQ12x4fs", "OPQ12,IVF4,PQ12x4fs"])
def test_fast_scan_codes_are_searched(factory: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((700, 24))
    found = faiss_of(vectors, factory).candidates(dense_queries(vectors[:50]), 20)
    assert (found.ids == np.arange(50)[:, None]).any(axis=1).mean() > 0.9


def test_training_an_index_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 24))
    faiss_of(vectors, "IVF16,PQ3x8")  # 300 points for 256 centroids: FAISS would warn
    faiss_of(vectors, "OPQ3,IVF16,PQ3x4")  # and of its rotation's codes
    assert capfd.readouterr() == ("", "")


def bm25_of(tokens: np.ndarray, block: int = CHUNK_BLOCK) -> Bm25Retriever:
    retriever = Bm25Retriever(Bm25RetrieverConfig(k1=1.2, b=0.6), block=block)
    retriever.build(np.arange(len(tokens)), tokens, None)
    return retriever


def test_bm25_is_bm25s_with_repeats_counted() -> None:
    chunks = small_chunks()
    queries = make_queries(chunks.tokens)
    known = np.arange(0, chunks.num_chunks, 2)
    tokens = queries.tokens[known]
    reference = bm25s.BM25(k1=1.2, b=0.6, method="lucene")
    corpus = [row[row >= 0].tolist() for row in tokens]
    reference.index((corpus, {str(token): token for token in range(40)}), show_progress=False)
    found = bm25_of(tokens, block=300).candidates(queries, 15)  # several blocks, merged
    for row in range(0, len(queries.tokens), 29):
        query = queries.tokens[row]
        scores = reference.get_scores_from_ids(query[query >= 0].tolist())
        best = np.sort(scores)[::-1][:15]
        here = found.ids[row] >= 0
        np.testing.assert_allclose(found.scores[row][here], best[best > 0], rtol=1e-5)
        np.testing.assert_allclose(scores[found.ids[row][here]], best[best > 0], rtol=1e-5)


def test_bm25_matches_neither_padding_nor_unknown_tokens_nor_nothing() -> None:
    retriever = bm25_of(np.array([[0, 1, -1], [2, -1, -1], [-1, -1, -1]]))
    found = retriever.candidates(make_queries(np.array([[2, 7, 40], [41, 40, 9], [1, 1, 0]])), 3)
    assert found.ids.tolist() == [[1, -1, -1], [-1, -1, -1], [0, -1, -1]]


def test_bm25_ties_go_to_the_lowest_id() -> None:
    rows = np.tile(np.array([[3, 4]]), (50, 1))
    found = bm25_of(rows).candidates(make_queries(rows[:2]), 7)
    assert found.ids.tolist() == [list(range(7))] * 2


def test_bm25_without_text_is_the_users_error() -> None:
    with pytest.raises(UserError, match="no text"):
        bm25_of(np.full((3, 4), -1))


def test_importing_bm25s_leaves_its_logger_quiet() -> None:
    logging.getLogger("bm25s").setLevel(logging.DEBUG)
    bm25_of(np.array([[1, 2]]))
    assert logging.getLogger("bm25s").level == logging.NOTSET

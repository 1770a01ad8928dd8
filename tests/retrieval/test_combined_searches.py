"""Contract: searches made of others put candidates in the order of a few lines of arithmetic, the
oracle's by the text to come; behind a pool the first search's order goes on.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    DenseBm25RetrieverConfig,
    DenseNeuralRetrieverConfig,
    EditDistanceRetrieverConfig,
    FaissRetrieverConfig,
    HybridRetrieverConfig,
    OracleRetrieverConfig,
    RetrieverConfig,
    TfidfRetrieverConfig,
)
from retro_lab.retrieval.base import (
    Neighbours,
    Queries,
    Retriever,
    chunk_queries,
    no_texts,
    text_tokens,
)
from retro_lab.retrieval.index_stage import index_stage
from retro_lab.retrieval.search.bm25 import Bm25Retriever
from retro_lab.retrieval.search.dense_neural_rerank import DenseNeuralReranker
from retro_lab.retrieval.search.hybrid import fuse
from retro_lab.retrieval.search.ranking import append_tail, repeated_in_row
from retro_lab.retrieval.search.registry import build_retriever, index_fields
from retro_lab.store.stage import Stage
from retro_lab.testing.small_world import SmallChunks, bag_of_words, make_queries, small_chunks

ROWS = np.arange(3, 900, 37)
PARENTS = (Stage("chunks", 1, {}, {}), Stage("embeddings", 1, {}, {}))


@cache
def world() -> SmallChunks:
    return small_chunks()


@cache
def queries() -> Queries:
    chunks = world()
    return chunk_queries(
        chunks, bag_of_words(chunks), ROWS, lambda ids: chunks.texts(ids, chunks.corpus)
    )


def built(config: RetrieverConfig) -> Retriever:
    chunks, ids = world(), world().searched
    retriever = build_retriever(config)
    tokens = text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)
    retriever.build(ids, tokens, bag_of_words(chunks).of(ids))
    return retriever


FLAT, BM25 = {"kind": "faiss", "factory": "Flat"}, {"kind": "bm25", "k1": 0.9, "b": 0.4}


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (HybridRetrieverConfig(), {"dense": FLAT, "lexical": BM25}),
        (DenseBm25RetrieverConfig(), {"dense": FLAT, "bm25": BM25}),
        (EditDistanceRetrieverConfig(), {"bm25": BM25}),
        (OracleRetrieverConfig(), {"bm25": BM25}),
    ],
)
def test_the_key_of_an_index_names_its_parts(config: RetrieverConfig, parts: dict) -> None:
    """Search settings, such as the pool, do not enter it."""
    fields = index_fields(config)
    assert {name: value for name, value in fields.items() if name != "kind"} == parts


def ordered(ids: list[int], scores: dict[int, float]) -> list[int]:
    return sorted(ids, key=lambda chunk: (-scores[chunk], chunk))


def test_tfidf_is_the_cosine_of_its_vectors() -> None:
    chunks, ids = world(), world().searched
    counts = np.stack([(chunks.tokens == word).sum(axis=1) for word in range(40)], axis=1)
    known = counts[ids]
    vectors = counts * (1 + np.log((1 + len(ids)) / (1 + (known > 0).sum(axis=0))))
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosine = vectors[ROWS] @ vectors[ids].T
    found = built(TfidfRetrieverConfig()).candidates(queries(), 25)
    np.testing.assert_allclose(found.scores, -np.sort(-cosine, axis=1)[:, :25], atol=1e-6)
    places = np.searchsorted(ids, found.ids)
    np.testing.assert_allclose(found.scores, np.take_along_axis(cosine, places, 1), atol=1e-6)


def test_scores_of_given_chunks_are_those_of_the_search() -> None:
    bm25 = built(Bm25RetrieverConfig())
    assert isinstance(bm25, Bm25Retriever)
    found = bm25.candidates(queries(), 60)
    reverse = bm25.scores_of(queries().tokens, found.ids[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(reverse, np.where(found.ids < 0, 0, found.scores), rtol=1e-6)
    stranger = bm25.scores_of(np.array([[39, 38]]), world().searched[None])
    assert (stranger == 0).any()


def test_dense_candidates_are_put_in_the_order_of_bm25() -> None:
    pool = 30
    dense = built(FaissRetrieverConfig()).candidates(queries(), 50).ids
    scores = built(Bm25RetrieverConfig()).scores_of(queries().tokens, dense)  # type: ignore[attr-defined]
    found = built(DenseBm25RetrieverConfig(pool=pool)).candidates(queries(), 50)
    for row in range(len(ROWS)):
        of = dict(zip(dense[row].tolist(), scores[row].tolist(), strict=True))
        head = ordered(dense[row, :pool].tolist(), of)
        assert found.ids[row].tolist() == [*head, *dense[row, pool:].tolist()]
        np.testing.assert_allclose(found.scores[row, :pool], [of[c] for c in head], rtol=1e-6)
        lowest = found.scores[row, pool - 1]
        np.testing.assert_allclose(found.scores[row, pool:], lowest - np.arange(1, 21), rtol=1e-6)
    assert (found.ids[:, :pool] != dense[:, :pool]).any()


def test_fusion_sums_reciprocal_ranks() -> None:
    config = HybridRetrieverConfig(depth=20)
    dense = built(config.dense).candidates(queries(), 60).ids
    lexical = built(config.lexical).candidates(queries(), 20).ids
    found = built(config).candidates(queries(), 50)
    for row in range(len(ROWS)):
        scores: Counter[int] = Counter()
        for ranking in (dense[row, :20], lexical[row]):
            for rank, chunk in enumerate(ranking[ranking >= 0].tolist(), 1):
                scores[chunk] += 1 / (60 + rank)  # type: ignore[assignment]
        head = ordered(list(scores), scores)
        tail = [chunk for chunk in dense[row, 20:].tolist() if chunk not in scores]
        assert found.ids[row].tolist() == [*head, *tail][:50]
        np.testing.assert_allclose(found.scores[row, 0], scores[head[0]], rtol=1e-6)


def test_fusion_of_rankings_that_run_out_and_tie() -> None:
    fused = fuse([np.array([[7, 3, -1]]), np.array([[3, 7, 5]])], 60)
    assert fused.ids.tolist() == [[3, 7, 5, -1, -1, -1]]
    assert fused.scores[0, 0] == fused.scores[0, 1] == np.float32(1 / 61 + 1 / 62)


def test_a_tail_is_what_its_head_lacks_in_order() -> None:
    head = Neighbours(np.array([[4, 2, -1], [-1] * 3]), np.array([[9, 5, -np.inf], [-np.inf] * 3]))
    tail = Neighbours(np.array([[2, 8, 1], [6, 6, 3]]), np.zeros((2, 3)))
    found = append_tail(head, tail, 5)
    assert found.ids.tolist() == [[4, 2, 8, 1, -1], [6, 3, -1, -1, -1]]
    assert found.scores.tolist() == [[9, 5, 3, 2, -np.inf], [-1, -3, *[-np.inf] * 3]]
    assert repeated_in_row(np.array([[1, 2, 1, 1]])).tolist() == [[False, False, True, True]]


def longest_run(left: list[int], right: list[int]) -> int:
    lengths = range(min(len(left), len(right)), 0, -1)
    for length in lengths:
        grams = {tuple(left[i : i + length]) for i in range(len(left) - length + 1)}
        if any(tuple(right[i : i + length]) in grams for i in range(len(right) - length + 1)):
            return length
    return 0


def test_the_oracle_ranks_by_the_run_shared_with_the_next_chunk() -> None:
    chunks, ids = world(), world().searched
    oracle = built(OracleRetrieverConfig(pool=len(ids)))
    found = oracle.candidates(queries(), len(ids))
    text = [row[row < 40].tolist() for row in chunks.tokens]  # no gaps inside a chunk
    last = 0
    for row, chunk in enumerate(ROWS.tolist()):
        following = chunk + 1
        if (
            following == len(chunks.document)
            or chunks.document[following] != chunks.document[chunk]
        ):
            following, last = chunk, last + 1
        runs = {known: longest_run(text[following], text[known]) for known in ids.tolist()}
        here = found.ids[row] >= 0
        assert [int(s) for s in found.scores[row][here]] == [runs[c] for c in found.ids[row][here]]
        assert {known for known in runs if runs[known]} == set(found.ids[row][here].tolist())
    assert last > 0
    own = oracle.candidates(queries()._replace(following=None), 5)
    assert (own.ids != found.ids[:, :5]).any()


def test_equal_runs_are_in_the_order_of_bm25() -> None:
    ids = world().searched
    found = built(OracleRetrieverConfig(pool=len(ids))).candidates(queries(), len(ids))
    surface = built(Bm25RetrieverConfig()).scores_of(queries().following, found.ids)  # type: ignore[attr-defined]
    run = np.where(found.ids < 0, -1, np.trunc(found.scores))
    equal = (run[:, 1:] == run[:, :-1]) & (found.ids[:, 1:] >= 0)
    assert equal.sum() > 1000
    assert (np.diff(surface, axis=1)[equal] <= 1e-5).all()


def length_scorer(pairs: list[tuple[str, str]]) -> np.ndarray:
    assert len(set(pairs)) == len(pairs)  # equal pairs are scored once
    return np.array([len(query) * 1000 - len(text) for query, text in pairs])


def test_dense_candidates_are_put_in_the_order_of_a_cross_encoder() -> None:
    chunks = world()
    dense = built(FaissRetrieverConfig()).candidates(queries(), 30).ids
    reranker = built(DenseNeuralRetrieverConfig(pool=20))
    assert isinstance(reranker, DenseNeuralReranker)
    reranker.scorer = length_scorer
    found = reranker.candidates(queries(), 30)
    texts = chunks.texts(np.arange(chunks.num_chunks), chunks.corpus)
    for row, chunk in enumerate(ROWS):
        of = {c: len(texts[chunk]) * 1000 - len(texts[c]) for c in dense[row].tolist()}
        head = ordered(dense[row, :20].tolist(), of)
        assert found.ids[row].tolist() == [*head, *dense[row, 20:].tolist()]
        assert found.scores[row, 0] == of[head[0]]


def test_a_cross_encoder_without_texts_is_the_users_error() -> None:
    retriever = built(DenseNeuralRetrieverConfig())
    for without in (
        queries()._replace(text_of=no_texts),
        queries()._replace(text_of=no_texts, texts=["w1"] * len(ROWS)),
    ):
        with pytest.raises(UserError, match="raw text"):
            retriever.candidates(without, 3)
    with pytest.raises(UserError, match="outside the store") as caught:
        retriever.candidates(queries()._replace(chunk_ids=-1 - 0 * ROWS), 3)
    assert "raw_texts()" in str(caught.value.fix)


def test_a_missing_cross_encoder_is_the_users_error(tmp_path: Path) -> None:
    for model in (str(tmp_path), "./no/such/folder"):
        config = DenseNeuralRetrieverConfig(model=model)
        with pytest.raises(UserError, match=r"retriever\.model=.*has no model\.safetensors"):
            index_stage(config, *PARENTS)
        with pytest.raises(UserError, match=r"retriever\.model=.*has no model\.safetensors"):
            built(config).candidates(queries(), 3)


def test_a_cross_encoder_that_does_not_load_is_the_users_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def damaged(*args: object, **kwargs: object) -> None:
        raise OSError("weights are cut short\nmore")

    (tmp_path / "model.safetensors").write_bytes(b"")
    package = ModuleType("sentence_transformers")  # the real one takes seconds to import
    package.CrossEncoder = damaged  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    with pytest.raises(UserError, match=r"retriever\.model=.*weights are cut short\n"):
        built(DenseNeuralRetrieverConfig(model=str(tmp_path))).candidates(queries(), 3)


def test_a_model_that_embeds_single_texts_ranks_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(UserError, match=r"retriever\.model=.*no head that scores pairs"):
        built(DenseNeuralRetrieverConfig(model=str(tmp_path))).candidates(queries(), 3)


def test_a_folders_cross_encoder_enters_the_key_by_content(tmp_path: Path) -> None:
    keys = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "model.safetensors").write_bytes(content)
        config = DenseNeuralRetrieverConfig(model=str(tmp_path))
        keys.append(index_stage(config, *PARENTS).key)
    assert keys[0] == keys[2] != keys[1]


def test_a_query_without_text_or_neighbours_finds_nothing_wrong() -> None:
    empty = make_queries(np.full((2, 6), 41))
    vectors = np.zeros((2, 48), np.float32)
    asked = empty._replace(embeddings=vectors, following=empty.tokens)
    for config in (DenseBm25RetrieverConfig(), HybridRetrieverConfig(), OracleRetrieverConfig()):
        found = built(config).candidates(asked, 4)
        assert found.ids.shape == (2, 4)
        assert (found.ids[0] == found.ids[1]).all()

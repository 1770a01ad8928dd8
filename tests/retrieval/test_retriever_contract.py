"""Contract: every option of the group `retriever` is one and the same kind of search.

Candidates come best first, ties by ascending id, -1 only at the end; they don't depend on the batch
or on threads; saving and loading changes nothing; equal builds are equal bytes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import faiss
import numpy as np
import pytest
from in_process_service import InProcess, client_of, served_index
from small_world import SmallChunks, bag_of_words, small_chunks

from retro_lab.config.compose import load_config
from retro_lab.config.errors import UserError
from retro_lab.config.keys import options
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    DenseNeuralRetrieverConfig,
    HttpRetrieverConfig,
    NoneRetrieverConfig,
    RetrieverConfig,
)
from retro_lab.retrieval.base import Queries, Retriever, chunk_queries, text_tokens
from retro_lab.retrieval.embed.embedders import Embeddings
from retro_lab.retrieval.filters.exclusion import search_filled
from retro_lab.retrieval.search.dense_neural_rerank import DenseNeuralReranker, Scorer
from retro_lab.retrieval.search.registry import BACKENDS, build_retriever, load_retriever
from retro_lab.retrieval.service.client import HttpRetriever, Service
from retro_lab.retrieval.service.server import create_app

OPTIONS = [option for option in options("retriever") if option != "none"]


@cache
def world() -> tuple[SmallChunks, Embeddings]:
    chunks = small_chunks()
    rng, trained = np.random.default_rng(2), np.flatnonzero(chunks.split == 0)
    brought = [rng.permutation(trained)[:60] for _ in range(chunks.num_chunks)]
    chunks.neighbours = np.array(brought, np.int32)
    chunks.neighbours[:, 5] = chunks.neighbours[:, 2]  # as a damaged dataset may
    return chunks, bag_of_words(chunks)


@cache
def config_of(option: str) -> RetrieverConfig:
    return load_config([f"retriever={option}"]).retriever


def built(option: str) -> Retriever:
    chunks, embeddings = world()
    ids = chunks.searched
    retriever = build_retriever(config_of(option))
    tokens = text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)
    retriever.build(ids, tokens, embeddings.of(ids) if retriever.needs_embeddings else None)
    return retriever


@cache
def shared(option: str) -> Retriever:
    return built(option)


@cache
def queries() -> Queries:
    chunks, embeddings = world()
    ids = np.arange(chunks.num_chunks)
    return chunk_queries(chunks, embeddings, ids, lambda ids: chunks.texts(ids, chunks.corpus))


class SharedWords(DenseNeuralReranker):
    """No model is downloaded: a pair's score is the number of words that its texts share."""

    @property
    def scorer(self) -> Scorer:
        def score(pairs: list[tuple[str, str]]) -> np.ndarray:
            return np.array([len(set(a.split()) & set(b.split())) for a, b in pairs])

        return score


@cache
def service() -> InProcess:
    return InProcess(create_app(served_index(Bm25RetrieverConfig(), world()[0])))


class ServedHere(HttpRetriever):
    """`retriever=http` asks a service of BM25 in this process."""

    @classmethod
    def connect(cls, config: HttpRetrieverConfig) -> Service:
        return Service(config, client=client_of(service()))


@pytest.fixture(autouse=True)
def without_models_and_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, DenseNeuralRetrieverConfig, f"{__name__}:SharedWords")
    monkeypatch.setitem(BACKENDS, HttpRetrieverConfig, f"{__name__}:ServedHere")


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("option", OPTIONS)
def test_candidates_are_in_order_distinct_and_from_the_database(option: str) -> None:
    found = shared(option).candidates(queries(), 30)
    assert found.ids.shape == found.scores.shape == (len(queries().document), 30)
    assert found.ids.dtype == np.int64
    assert found.scores.dtype == np.float32
    here = found.ids >= 0
    assert np.isin(found.ids[here], world()[0].searched).all()
    assert (here[:, :-1] >= here[:, 1:]).all()
    assert np.isneginf(found.scores[~here]).all()
    assert np.isfinite(found.scores[here]).all()
    follows = here[:, 1:]
    better, worse = found.scores[:, :-1], found.scores[:, 1:]
    assert (better >= worse)[follows].all()
    ascending = found.ids[:, :-1] < found.ids[:, 1:]
    assert ascending[follows & (better == worse)].all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found.ids)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_query_finds_the_same_alone_and_in_any_batch(option: str) -> None:
    retriever, every = shared(option), queries()
    whole = retriever.candidates(every, 20)
    reverse = retriever.candidates(every.take(slice(None, None, -1)), 20)
    np.testing.assert_array_equal(reverse.ids[::-1], whole.ids)
    np.testing.assert_array_equal(reverse.scores[::-1], whole.scores)
    for row in (0, 7, 500):
        alone = retriever.candidates(every.take(slice(row, row + 1)), 20)
        np.testing.assert_array_equal(alone.ids[0], whole.ids[row])
        np.testing.assert_array_equal(alone.scores[0], whole.scores[row])


@pytest.mark.parametrize("option", OPTIONS)
def test_saving_and_loading_changes_nothing(option: str, tmp_path: Path) -> None:
    shared(option).save(tmp_path)
    loaded = load_retriever(config_of(option), tmp_path)
    before, after = (r.candidates(queries(), 20) for r in (shared(option), loaded))
    np.testing.assert_array_equal(after.ids, before.ids)
    np.testing.assert_array_equal(after.scores, before.scores)


@pytest.mark.parametrize("option", OPTIONS)
def test_equal_builds_are_equal_bytes_whatever_the_threads(option: str, tmp_path: Path) -> None:
    threads, files = faiss.omp_get_max_threads(), []
    try:
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            folder = tmp_path / str(count)
            folder.mkdir()
            built(option).save(folder)
            files.append(contents(folder))
    finally:
        faiss.omp_set_num_threads(threads)
    assert files[0] == files[1]


@pytest.mark.parametrize("option", OPTIONS)
def test_more_neighbours_than_the_database_holds_end_in_missing(option: str) -> None:
    size = len(world()[0].searched)
    found = shared(option).candidates(queries().take(slice(0, 40)), size + 50)
    assert found.ids.shape == (40, size + 50)
    assert (found.ids[:, size:] == -1).all()
    assert (found.ids[:, 0] >= 0).any()


@pytest.mark.parametrize("option", OPTIONS)
def test_a_longer_list_of_an_exact_search_begins_with_the_shorter(option: str) -> None:
    retriever = shared(option)
    if not retriever.exact:
        pytest.skip("an approximate search may look elsewhere for more")
    short, long = (retriever.candidates(queries(), k) for k in (3, 40))
    np.testing.assert_array_equal(long.ids[:, :3], short.ids)


@pytest.mark.parametrize("option", OPTIONS)
def test_filled_search_never_returns_the_own_document(option: str) -> None:
    chunks, _ = world()
    found = search_filled(shared(option), queries(), 16, chunks.document)
    own = chunks.document[found.ids] == queries().document[:, None]
    assert not (own & (found.ids >= 0)).any()
    enough = (found.ids >= 0).mean()
    assert enough > 0.95, enough


def test_none_has_no_retriever() -> None:
    with pytest.raises(ValueError, match="none"):
        build_retriever(NoneRetrieverConfig())


def test_a_configuration_without_a_backend_is_the_users_error() -> None:
    class Unknown(RetrieverConfig):
        pass

    with pytest.raises(UserError, match=r"retriever=sorcery.*Unknown"):
        build_retriever(Unknown(name="sorcery"))

"""Contract: every option of the group `retriever` is one and the same kind of search."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from composed import config_of
from in_process_service import InProcess, client_of, served_index

from retro_lab.config.errors import UserError
from retro_lab.config.keys import options
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    DenseNeuralRetrieverConfig,
    HttpRetrieverConfig,
    NoneRetrieverConfig,
    RetrieverConfig,
)
from retro_lab.retrieval.search.dense_neural_rerank import DenseNeuralReranker, Scorer
from retro_lab.retrieval.search.registry import BACKENDS, build_retriever, load_retriever
from retro_lab.retrieval.service.client import HttpRetriever, Service
from retro_lab.retrieval.service.server import create_app
from retro_lab.testing.contracts import RetrieverContract, Search, queries, world

OPTIONS = [option for option in options("retriever") if option != "none"]
NOT_BY_CONTENT = {"oracle", "random", "stored"}  # they read what new text lacks
OWN = {"custom": ["retriever.cls=word_overlap:WordOverlap"]}


@cache
def retriever_of(option: str) -> RetrieverConfig:
    return config_of(f"retriever={option}", *OWN.get(option, [])).retriever


@cache
def searched(option: str) -> Search:
    config = retriever_of(option)
    return Search.of(lambda: build_retriever(config), lambda folder: load_retriever(config, folder))


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


class TestEveryOption(RetrieverContract):
    @pytest.fixture(params=OPTIONS)
    def search(self, request: pytest.FixtureRequest) -> Search:
        return searched(request.param)

    @pytest.mark.parametrize("option", [o for o in OPTIONS if o not in NOT_BY_CONTENT])
    def test_new_text_finds_what_a_stored_chunk_of_the_same_text_finds(self, option: str) -> None:
        retriever, chunks = searched(option).shared, world()[0]
        stored = queries().take(np.arange(3, 900, 60))
        outside = np.full(len(stored.chunk_ids), -1)
        new = stored._replace(
            chunk_ids=outside,
            document=outside,
            following=None,
            given=None,
            texts=chunks.texts(stored.chunk_ids, chunks.corpus),
        )
        expected, found = (retriever.candidates(asked, 20) for asked in (stored, new))
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def test_none_has_no_retriever() -> None:
    with pytest.raises(ValueError, match="none"):
        build_retriever(NoneRetrieverConfig())


def test_a_configuration_without_a_backend_is_the_users_error() -> None:
    class Unknown(RetrieverConfig):
        pass

    with pytest.raises(UserError, match=r"retriever=sorcery.*Unknown"):
        build_retriever(Unknown(name="sorcery"))

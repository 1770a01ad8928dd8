"""Contract: a search through the service finds what a search in process finds; the client repeats
what may pass, and refuses a service of other chunks or of another index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest
from in_process_service import (
    KINDS,
    QUERIES,
    InProcess,
    InProcessRetriever,
    client_of,
    client_retriever,
    index_of,
    served_index,
    world,
)

from retro_lab.commands.serve import open_run
from retro_lab.config.compose import load_config
from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    Config,
    HttpRetrieverConfig,
)
from retro_lab.retrieval.base import chunk_queries
from retro_lab.retrieval.search.registry import BACKENDS
from retro_lab.retrieval.service.client import Service, open_client
from retro_lab.retrieval.service.server import Limits, create_app
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.testing.small_world import SmallChunks, small_chunks


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx.BaseTransport], None]:
    """Every client from now on speaks through this transport."""
    backend = f"{InProcessRetriever.__module__}:{InProcessRetriever.__name__}"
    monkeypatch.setitem(BACKENDS, HttpRetrieverConfig, backend)

    def through(transport: httpx.BaseTransport) -> None:
        InProcessRetriever.transport = transport

    return through


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_the_client_finds_what_a_search_in_process_finds(kind: int, use: Callable) -> None:
    served = index_of(kind)
    transport = InProcess(create_app(served, Limits(max_queries=20)))
    use(transport)
    queries = chunk_queries(world(), served.embeddings, QUERIES)
    expected = served.retriever.candidates(queries, 12)
    found = client_retriever(world()).candidates(queries._replace(embeddings=None), 12)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    paths = [request.url.path for request in transport.requests]
    assert paths == ["/health", "/candidates", "/candidates"]


@pytest.mark.parametrize("kind", [0, 1])
def test_text_outside_the_store_is_found_too(kind: int, use: Callable) -> None:
    served = index_of(kind)
    transport = InProcess(create_app(served))
    use(transport)
    queries = chunk_queries(world(), served.embeddings, QUERIES)
    expected = served.retriever.candidates(queries, 12)
    nowhere = queries._replace(chunk_ids=np.where(QUERIES % 2, -1, QUERIES))
    for asked in (nowhere, nowhere._replace(embeddings=None)):
        found = client_retriever(world(), batch_size=18).candidates(asked, 12)
        np.testing.assert_array_equal(found.ids, expected.ids)
    assert [request.url.path for request in transport.requests].count("/candidates") == 4


def test_the_client_sends_the_key_of_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRO_LAB_API_KEY", "secret")
    client = open_client(HttpRetrieverConfig())
    assert client.headers["Authorization"] == "Bearer secret"


def answering(*answers: int | type[Exception]) -> tuple[Service, list[float]]:
    """A client whose service gives these statuses in turn, and the waits between its attempts."""
    left, waits = list(answers), []

    def handle(request: httpx.Request) -> httpx.Response:
        answer = left.pop(0)
        if not isinstance(answer, int):
            raise answer("no answer")
        good = {"limits": {"max_queries": 9}, "needs_embeddings": False}
        return httpx.Response(answer, json=good if answer == 200 else {"detail": "?"})

    client = client_of(httpx.MockTransport(handle))
    return Service(HttpRetrieverConfig(retries=3), waits.append, client), waits


def test_a_busy_or_absent_service_is_asked_again_ever_later() -> None:
    service, waits = answering(503, httpx.ConnectError, httpx.ReadTimeout, 200)
    assert service.health()["limits"]["max_queries"] == 9
    assert waits == [0.5, 1.0, 2.0]


def test_a_service_that_stays_away_is_the_users_to_start() -> None:
    service, waits = answering(*[httpx.ConnectError] * 3, 503, 200)
    with pytest.raises(UserError, match=r"retriever\.url=.* 4 attempts: it answered 503") as error:
        service.health()
    assert len(waits) == 3
    assert "serve run=" in str(error.value.fix)


def test_another_program_at_the_address_is_named_at_once() -> None:
    service, waits = answering(404)
    with pytest.raises(UserError, match="is no search service of retro_lab"):
        service.health()
    assert waits == []


def test_a_refusal_comes_with_the_services_own_fix(use: Callable) -> None:
    use(InProcess(create_app(index_of(0), Limits(max_k=5))))
    retriever = client_retriever(world())
    with pytest.raises(UserError, match=r"k: 6 asked, but the limit is 5") as error:
        retriever.candidates(chunk_queries(world(), None, QUERIES), 6)
    assert "higher limit" in str(error.value.fix)


def changed(split: int) -> SmallChunks:
    """The world with one other token in a chunk of a split."""
    chunks = small_chunks()
    chunks.tokens[np.flatnonzero(chunks.split == split)[7], 2] ^= 1
    return chunks


def test_a_service_of_another_database_is_refused_by_both_keys(use: Callable) -> None:
    served, other = index_of(0), served_index(KINDS[0], changed(0))
    use(InProcess(create_app(served)))
    with pytest.raises(UserError) as error:
        client_retriever(other.chunks)  # type: ignore[arg-type]
    assert served.chunks_key in error.value.message
    assert other.chunks_key in error.value.message


def test_a_query_whose_tokens_are_not_the_stores_is_refused(use: Callable) -> None:
    use(InProcess(create_app(index_of(0))))
    chunks = changed(2)
    retriever = client_retriever(chunks)  # the databases are equal
    every = np.arange(chunks.num_chunks)
    with pytest.raises(UserError, match="not those of this chunk store"):
        retriever.candidates(chunk_queries(chunks, None, every), 3)


def test_an_index_that_changed_since_is_refused(use: Callable, tmp_path: Path) -> None:
    use(InProcess(create_app(index_of(0))))
    retriever = client_retriever(world())
    retriever.save(tmp_path)
    use(InProcess(create_app(index_of(3))))
    with pytest.raises(UserError, match=r"serves index key-of-random, .* has index key-of-bm25"):
        InProcessRetriever.load(tmp_path, HttpRetrieverConfig())
    retriever.service.client = client_of(InProcessRetriever.transport)
    with pytest.raises(UserError, match="key-of-random is served by now"):
        retriever.candidates(chunk_queries(world(), None, QUERIES), 3)


def test_a_run_is_served_and_another_run_retrieves_from_it(use: Callable, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(["ham", "egg", "tea", "jam"], 60)) for _ in range(30)]
    lines = [orjson.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    (tmp_path / "corpus.jsonl").write_bytes(b"\n".join(lines))
    common = [
        "corpus=jsonl", f"corpus.path={tmp_path / 'corpus.jsonl'}", "tokenizer=byte",
        "chunking=m16", "neighbours.k_store=4", f"runs_dir={tmp_path}",
    ]  # fmt: skip

    def tabled(retriever: str) -> tuple[Config, DataGraph, np.ndarray]:
        config = load_config(
            [*common, f"retriever={retriever}", f"store.dir={tmp_path / retriever}"]
        )
        graph = DataGraph(config)
        return config, graph, graph.neighbours(config.retriever).data.ids

    own, _, expected = tabled("bm25")
    run = RunDirectory(tmp_path / "run")
    run.begin(own, anew=True)
    served = open_run(run).text_search()
    use(InProcess(create_app(served)))
    config, client, found = tabled("http")
    http = config.retriever
    np.testing.assert_array_equal(found, expected)
    assert len(served.search_texts([texts[3]], 2)[0]) == 2

    moved = replace(http, url="http://elsewhere:1", timeout=1.0, batch_size=3, retries=9)
    before, table = client.index(http).stage.key, client.neighbours(http).stage.key
    assert client.neighbours(moved).stage.key == table
    pinned = replace(http, index=served.key)
    use(httpx.MockTransport(lambda request: httpx.Response(503)))  # nobody is asked
    assert client.neighbours(pinned).stage.key == table
    np.testing.assert_array_equal(client.neighbours(pinned).data.ids, expected)

    own.retriever.b = 0.9  # type: ignore[attr-defined]
    run.begin(own, anew=True)
    use(InProcess(create_app(open_run(run).text_search())))
    assert DataGraph(config).index(http).stage.key != before  # so no stale neighbours are read
    other = DataGraph(replace(config, store=replace(own.store, dir=str(tmp_path / "b"))))
    with pytest.raises(UserError, match=f"but this run has index {served.key}"):
        _ = other.neighbours(pinned).data

"""Contract: the service answers searches with documents and texts; what is too large,
malformed, unauthorised or too slow is answered with {"error": {code, message, fix}}.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from in_process_service import InProcess, client_of, index_of, world

from retro_lab.retrieval.base import Neighbours, chunk_queries
from retro_lab.retrieval.service.served_index import ServedIndex
from retro_lab.retrieval.service.server import Limits, create_app

CHUNK_1 = {"index": "x", "chunk_ids": [1], "tokens": [[1]], "k": 1}
BM25 = {"index": "key-of-bm25"}


def bm25(**options: Any) -> httpx.Client:
    return client_of(InProcess(create_app(index_of(0), **options)))


def failure(answer: httpx.Response) -> tuple[int, str]:
    """Status and code; every error has the one form."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "fix"}
    assert all(error.values())
    return answer.status_code, error["code"]


@pytest.mark.parametrize(
    ("kind", "form"), [(0, "texts"), (0, "tokens"), (1, "texts"), (1, "embeddings")]
)
def test_a_search_answers_with_documents_texts_and_what_follows(kind: int, form: str) -> None:
    served, chunk = index_of(kind), int(world().searched[30])
    texts = world().texts([chunk], world().corpus)
    asked = {
        "texts": texts,
        "tokens": [[int(word[1:]) for word in texts[0].split()]],
        "embeddings": None
        if served.embeddings is None
        else served.embeddings.of(np.array([chunk])).astype(float).tolist(),
    }
    client = client_of(InProcess(create_app(served)))
    answer = client.post("/search", json={form: asked[form] * 2, "k": 300})
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["results"]
    assert first == second
    expected = served.retriever.candidates(
        chunk_queries(world(), served.embeddings, np.array([chunk])), 300
    )
    assert [hit["chunk_id"] for hit in first] == expected.ids[0].tolist()
    assert [hit["score"] for hit in first] == expected.scores[0].tolist()
    ends = 0
    for hit in first:
        found = hit["chunk_id"]
        document = world().document[found]
        assert hit["document_id"] == f"doc-{document}"
        assert hit["text"] == world().texts([found], world().corpus)[0]
        last = found + 1 == world().first_chunk[document + 1]
        after = "" if last else world().texts([found + 1], world().corpus)[0]
        ends += last
        assert hit["continuation"] == after
    assert ends


def test_a_query_without_hits_has_an_empty_list() -> None:
    results = bm25().post("/search", json={"texts": ["", "w3"], "k": 2}).json()["results"]
    assert [len(hits) for hits in results] == [0, 2]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/search", b"{", (422, "invalid_request")),
        ("/search", {}, (422, "invalid_request")),
        ("/search", {"texts": []}, (422, "invalid_request")),
        ("/search", {"texts": ["a"], "tokens": [[1]]}, (422, "invalid_request")),
        ("/search", {"texts": ["w1"], "k": 0}, (422, "invalid_request")),
        ("/search", {"texts": ["w1"], "neighbours": 3}, (422, "invalid_request")),
        ("/search", {"tokens": [[-7]]}, (422, "invalid_request")),
        ("/search", b'{"embeddings": [[NaN]]}', (422, "invalid_request")),
        ("/search", b'{"embeddings": [[1e999]]}', (422, "invalid_request")),
        ("/search", b'{"tokens": [[1e999]]}', (422, "invalid_request")),
        ("/search", b'{"texts": ["w1"], "k": Infinity}', (422, "invalid_request")),
        ("/search", b'{"texts": ["w1", "w2 \\ud800"]}', (422, "invalid_request")),
        ("/search", b'{"texts": ["w1"], "\\udfff": 1}', (422, "invalid_request")),
        ("/search", b'{"texts": ["\xff"]}', (422, "invalid_request")),
        ("/search", b'{"k": ' + b"9" * 800 + b"}", (422, "invalid_request")),
        ("/search", b"[" * 900, (422, "invalid_request")),
        ("/search", {"tokens": [[42]]}, (422, "impossible")),
        ("/search", {"embeddings": [[0.5] * 48]}, (422, "impossible")),
        ("/search", {"texts": ["w1"], "k": 51}, (413, "too_large")),
        ("/search", {"texts": ["w1"] * 9}, (413, "too_large")),
        ("/search", {"texts": ["w1"] * 8, "k": 13}, (413, "too_large")),
        ("/search", {"texts": ["w1" * 500]}, (413, "too_large")),
        ("/candidates", {**CHUNK_1, "tokens": []}, (422, "invalid_request")),
        ("/candidates", {**CHUNK_1, "chunk_ids": [-2]}, (422, "invalid_request")),
        ("/candidates", {**CHUNK_1, "index": "\ud800"}, (422, "invalid_request")),
        ("/candidates", CHUNK_1, (409, "other_index")),
        ("/candidates", {**CHUNK_1, **BM25}, (422, "impossible")),
        ("/candidates", {**CHUNK_1, **BM25, "chunk_ids": [1 << 40]}, (422, "impossible")),
        ("/elsewhere", {}, (404, "no_such_request")),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_says_why(path: str, body: Any, expected: tuple) -> None:
    limits = Limits(max_k=50, max_queries=8, max_hits=100, max_bytes=900)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    assert failure(bm25(limits=limits).post(path, content=content, headers=headers)) == expected


def test_a_body_need_not_say_how_long_it_is() -> None:
    client = bm25()
    request = client.build_request("POST", "/search", json={"texts": ["w1"]})
    del request.headers["Content-Length"]
    assert client.send(request).status_code == 200


def test_vectors_of_another_width_are_refused() -> None:
    client = client_of(InProcess(create_app(index_of(1))))
    assert failure(client.post("/search", json={"embeddings": [[0.5]]})) == (422, "impossible")


@pytest.mark.parametrize("size", [1e39, 3e38, 1e20])
def test_vectors_that_overflow_single_precision_are_refused(size: float) -> None:
    client = client_of(InProcess(create_app(index_of(1))))
    width = index_of(1).embeddings.dim
    answer = client.post("/search", json={"embeddings": [[size] * width]})
    assert failure(answer) == (422, "impossible")


def test_an_api_key_guards_everything_but_health() -> None:
    app = create_app(index_of(0), api_key="secret")
    for given in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer sécret".encode()},
    ):
        client = client_of(InProcess(app), headers=given)
        assert failure(client.post("/search", json={"texts": ["w1"]})) == (401, "unauthorised")
        assert failure(client.post("/candidates", json={})) == (401, "unauthorised")
        assert client.get("/health").status_code == 200
    client = client_of(InProcess(app), headers={"Authorization": "Bearer secret"})
    assert client.post("/search", json={"texts": ["w1"]}).status_code == 200


class Stuck:
    """A search that lasts until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def candidates(self, queries: Any, k: int) -> Neighbours:
        assert self.go.wait(60)
        return Neighbours.empty(len(queries.document), k)


def served_with(retriever: Any) -> ServedIndex:
    served = index_of(0)
    return ServedIndex(
        served.config, "k", retriever, served.chunks, served.corpus, served.tokenizer
    )


def test_a_slow_search_times_out_and_a_full_queue_is_busy() -> None:
    stuck = Stuck()
    app = create_app(served_with(stuck), Limits(timeout=0.01, max_waiting=1))
    client = client_of(InProcess(app))
    try:
        assert failure(client.post("/search", json={"texts": ["w1"]})) == (504, "timeout")
        assert failure(client.post("/search", json={"texts": ["w1"]})) == (503, "busy")
        assert client.get("/health").json()["status"] == "ok"
    finally:
        stuck.go.set()


def test_a_fault_of_the_search_tells_nothing_of_its_inside() -> None:
    class Broken:
        def candidates(self, queries: Any, k: int) -> Neighbours:
            raise RuntimeError("inside")

    answer = client_of(InProcess(create_app(served_with(Broken())))).post(
        "/search", json={"texts": ["w1"]}
    )
    assert failure(answer) == (500, "internal")
    assert "inside" not in answer.text


def test_the_documentation_shows_requests_answers_and_errors() -> None:
    schema = bm25().get("/openapi.json").json()
    completions = {"/v1/completions", "/v1/models"}
    assert set(schema["paths"]) == {"/health", "/search", "/candidates", *completions}
    answers = schema["paths"]["/search"]["post"]["responses"]
    assert {"200", "401", "413", "503", "504"} <= set(answers)
    assert set(schema["components"]["schemas"]["Hit"]["properties"]) == {
        "chunk_id", "score", "document_id", "text", "continuation",
    }  # fmt: skip

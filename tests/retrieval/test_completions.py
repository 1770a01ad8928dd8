"""Contract: `/v1/completions` continues prompts in OpenAI's form, whole or streamed, within limits
and behind the key; a field it cannot obey is refused; who leaves a stream ends the writing.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process_service import InProcess, client_of, index_of

from retro_lab.config.errors import UserError
from retro_lab.retrieval.new_text import Found
from retro_lab.retrieval.service.completions import Asked, Piece, Read, StopText
from retro_lab.retrieval.service.server import Limits, create_app

PATH = "/v1/completions"


class Echo:
    """Continues a prompt with its own letters, reads a neighbour first, and ends after `ends`."""

    name = "echo"
    ends = 6

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return [len(prompt) for prompt in prompts]

    def write(self, asked: Asked, read: Read) -> Iterator[Piece]:
        self.asked.append(asked)
        for row, prompt in enumerate(asked.prompts):
            read(row, len(prompt), [Found("doc-1", 0.5, "near " + prompt)])
        count = min(asked.max_tokens, self.ends)
        for place in range(count):
            for row, prompt in enumerate(asked.prompts):
                yield Piece(row, prompt[place % len(prompt)], place + 1)
        for row in range(len(asked.prompts)):
            yield Piece(row, "", count)


def client(completer: Any = None, **options: Any) -> httpx.Client:
    app = create_app(index_of(0), completer=completer or Echo(), **options)
    return client_of(InProcess(app))


def events(answer: httpx.Response) -> list[Any]:
    """The events of a stream, of which the last is text."""
    *parts, end = answer.text.split("\n\n")
    assert end == ""
    return [json.loads(part[6:]) if part[6:] != "[DONE]" else "[DONE]" for part in parts]


def test_an_answer_has_the_form_of_openai() -> None:
    body = {"prompt": ["abc", "xy"], "max_tokens": 4, "show_neighbours": True}
    answer = client().post(PATH, json=body).json()
    assert answer.pop("id").startswith("cmpl-")
    assert answer.pop("created") > 10**9
    assert answer == {
        "object": "text_completion",
        "model": "echo",
        "choices": [
            {"text": "abca", "index": 0, "logprobs": None, "finish_reason": "length"},
            {"text": "xyxy", "index": 1, "logprobs": None, "finish_reason": "length"},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13},
        "retro_lab": {
            "neighbours": [
                {"index": 0, "tokens": 3, "document": "doc-1", "score": 0.5, "text": "near abc"},
                {"index": 1, "tokens": 2, "document": "doc-1", "score": 0.5, "text": "near xy"},
            ]
        },
    }


def test_a_stream_has_the_text_and_usage_of_the_whole_answer() -> None:
    body = {"prompt": ["abc", "xyz"], "max_tokens": 9, "stop": "cab"}
    whole = client().post(PATH, json=body).json()
    assert [(c["text"], c["finish_reason"]) for c in whole["choices"]] == [
        ("ab", "stop"),
        ("xyzxyz", "stop"),
    ]
    more = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = events(client().post(PATH, json={**body, **more}))
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert {chunk["id"] for chunk in chunks} == {usage["id"]}
    texts = ["", ""]
    for chunk in chunks:
        [choice] = chunk["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_the_draw_is_as_asked() -> None:
    echo = Echo()
    asked = {"temperature": 0.3, "top_p": 0.5, "seed": 7, "max_tokens": 2}
    client(echo).post(PATH, json={"prompt": "a", **asked})
    client(echo).post(PATH, json={"prompt": "a"})
    client(echo).post(PATH, json={"prompt": "a"})
    assert echo.asked[0] == Asked(["a"], **asked)
    assert echo.asked[1][:4] == (["a"], 16, 1.0, 1.0)
    assert echo.asked[1].seed != echo.asked[2].seed


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_strings_end_a_text_however_it_is_cut(text: str, stops: list[str]) -> None:
    ends = [n for n in range(len(text) + 1) if any(text[:n].endswith(stop) for stop in stops)]
    expected = text
    if ends:
        longest = max((s for s in stops if text[: ends[0]].endswith(s)), key=len)
        expected = text[: ends[0] - len(longest)]
    for size in (1, 2, 5, 12):
        cut, said = StopText(stops), ""
        for start in range(0, len(text), size):
            if not cut.ended:
                said += cut.add(text[start : start + size])
        assert said + cut.rest() == expected
        assert cut.ended == bool(ends)


@pytest.mark.parametrize(
    ("body", "expected", "says"),
    [
        ({}, (422, "invalid_request"), "prompt"),
        ({"prompt": []}, (422, "invalid_request"), "prompt"),
        ({"prompt": [1, 2]}, (422, "invalid_request"), "prompt"),
        ({"prompt": "\ud800"}, (422, "invalid_request"), "surrogate"),
        ({"n": 2}, (422, "invalid_request"), "body.n: this service knows 1 only"),
        ({"best_of": 3}, (422, "invalid_request"), "best_of"),
        ({"echo": True}, (422, "invalid_request"), "echo: this service knows false only"),
        ({"logprobs": 0}, (422, "invalid_request"), "logprobs: this service knows null only"),
        ({"presence_penalty": 0.5}, (422, "invalid_request"), "presence_penalty"),
        ({"logit_bias": {"5": 1}}, (422, "invalid_request"), "logit_bias"),
        ({"tools": []}, (422, "invalid_request"), "tools"),
        ({"temperature": -1}, (422, "invalid_request"), "temperature"),
        ({"top_p": 0}, (422, "invalid_request"), "top_p"),
        ({"seed": 2**70}, (422, "invalid_request"), "seed"),
        ({"stop": ""}, (422, "invalid_request"), "stop"),
        ({"stop": ["a"] * 5}, (422, "invalid_request"), "stop"),
        ({"stream": True, "show_neighbours": True}, (422, "invalid_request"), "show_neighbours"),
        ({"max_tokens": 21}, (413, "too_large"), "max_tokens: 21 asked, but the limit is 20"),
        ({"prompt": "a" * 45}, (413, "too_large"), "61 asked, but the limit is 60"),
        ({"prompt": ["a" * 15, "a"]}, (413, "too_large"), "62 asked, but the limit is 60"),
        ({"prompt": "a" * 45, "stream": True}, (413, "too_large"), "61 asked"),
        ({"prompt": ["a"] * 4}, (413, "too_large"), "64 asked, but the limit is 60"),
        ({"prompt": "a" * 1921}, (413, "too_large"), "letters of all prompts: 1921 asked"),
        ({"model": "gpt"}, (404, "no_such_model"), "'echo' is served"),
    ],
)  # fmt: skip
def test_what_cannot_be_obeyed_is_refused(body: Any, expected: tuple, says: str) -> None:
    limits = Limits(max_new_tokens=20, max_context=60)
    content = json.dumps({"prompt": "a", **body} if body else body).encode()
    answer = client(limits=limits).post(
        PATH, content=content, headers={"Content-Type": "application/json"}
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == expected
    assert says in error["message"]


def test_what_clients_send_unasked_is_accepted() -> None:
    unasked = {"n": 1, "best_of": 1, "user": "me", "logprobs": None, "suffix": None, "echo": False}
    penalties = {"presence_penalty": 0.0, "frequency_penalty": 0, "logit_bias": {}, "stop": None}
    answer = client().post(PATH, json={"prompt": "a", "model": "echo", **unasked, **penalties})
    assert answer.status_code == 200, answer.text


def test_the_key_guards_all_under_v1() -> None:
    guarded = client(api_key="secret")
    for answer in (guarded.get("/v1/models"), guarded.post(PATH, json={"prompt": "a"})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorised")
    right = {"Authorization": "Bearer secret"}
    assert guarded.post(PATH, json={"prompt": "a"}, headers=right).status_code == 200
    [model] = guarded.get("/v1/models", headers=right).json()["data"]
    assert model["id"] == "echo"


def test_a_service_without_a_model_says_why() -> None:
    only_searches = client(UserError("the run is not trained", fix="train it"))
    assert only_searches.get("/v1/models").json()["data"] == []
    answer = only_searches.post(PATH, json={"prompt": "a"})
    expected = {"code": "impossible", "message": "the run is not trained", "fix": "train it"}
    assert (answer.status_code, answer.json()["error"]) == (422, expected)


class Failing(Echo):
    """Fails after the first piece."""

    def write(self, asked: Asked, read: Read) -> Iterator[Piece]:
        yield Piece(0, "a", 1)
        raise UserError("the disk is gone", fix="bring it back")


def test_an_error_within_a_stream_is_its_last_event() -> None:
    text, error = events(client(Failing()).post(PATH, json={"prompt": "a", "stream": True}))
    assert text["choices"][0]["text"] == "a"
    assert error["error"]["message"] == "the disk is gone"


class Stuck(Echo):
    """Writes once it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def write(self, asked: Asked, read: Read) -> Iterator[Piece]:
        assert self.go.wait(60)
        yield Piece(0, "a", 1)


@pytest.mark.parametrize("stream", [False, True])
def test_writing_that_takes_too_long_times_out(stream: bool) -> None:
    stuck = Stuck()
    try:
        slow = client(stuck, limits=Limits(timeout=0.01))
        answer = slow.post(PATH, json={"prompt": "a", "stream": stream})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    finally:
        stuck.go.set()


class Endless(Echo):
    """Writes as much as it may, and says when it begins."""

    ends = 10**9

    def __init__(self, begun: asyncio.Event) -> None:
        super().__init__()
        self.begun, self.loop = begun, asyncio.get_running_loop()

    def write(self, asked: Asked, read: Read) -> Iterator[Piece]:
        self.loop.call_soon_threadsafe(self.begun.set)
        yield from super().write(asked, read)


@pytest.mark.parametrize("stream", [True, False])
def test_a_search_is_answered_while_text_is_written_until_its_client_leaves(stream: bool) -> None:
    limits = Limits(max_new_tokens=10**9, max_context=2 * 10**9)
    body = json.dumps({"prompt": "a", "max_tokens": 10**9, "stream": stream}).encode()
    scope = {
        "type": "http", "method": "POST", "path": PATH, "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip

    async def both() -> tuple[int, int]:
        begun, leaves, told = asyncio.Event(), asyncio.Event(), [body]
        app = create_app(index_of(0), limits, completer=Endless(begun))

        async def receive() -> dict[str, Any]:
            if told:
                return {"type": "http.request", "body": told.pop()}
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            pass

        writing = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
        await begun.wait()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as other:
            found = await other.post("/search", json={"texts": ["w1"]})
            leaves.set()
            await writing
            after = await other.post(PATH, json={"prompt": "a"})
        return found.status_code, after.status_code

    assert asyncio.run(asyncio.wait_for(both(), 60)) == (200, 200)

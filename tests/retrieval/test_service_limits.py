"""Contract: before the service looks into a request it has seen the key, counted the bytes and
bounded the wait; a connection on which nothing gets finished is closed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from retro_lab.retrieval.service.limits import Connection, Guard, Limits, connection_type

KEY = [(b"authorization", b"Bearer secret")]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Client:
    """Sends a body in pieces; None stands for a client that says no more."""

    def __init__(self, pieces: Iterable[bytes | None], headers: Any = KEY) -> None:
        self.scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        self.pieces = iter(pieces)
        self.taken = 0
        self.sent: list[dict] = []

    async def receive(self) -> dict:
        piece = next(self.pieces, b"")
        self.taken += 1
        if piece is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    async def ask(self, app: Callable[..., Awaitable[None]]) -> tuple[int, Any]:
        await app(self.scope, self.receive, self.send)
        body = b"".join(message.get("body", b"") for message in self.sent)
        status = self.sent[0]["status"]
        return status, body if status == 200 else json.loads(body)["error"]["code"]


def guarded(**limits: Any) -> Guard:
    return Guard(echo, Limits(**{"max_bytes": 100, "timeout": 5.0, **limits}), "secret")


def asked(client: Client, **limits: Any) -> tuple[int, Any]:
    return asyncio.run(client.ask(guarded(**limits)))


@pytest.mark.parametrize("declared", [b"1", b"-5", b"many", None])
def test_bytes_are_counted_whatever_was_declared(declared: bytes | None) -> None:
    headers = KEY if declared is None else [*KEY, (b"content-length", declared)]
    assert asked(Client([b"x" * 50] * 2, headers)) == (200, b"x" * 100)
    endless = Client([b"x" * 50] * 1000, headers)
    assert asked(endless) == (413, "too_large")
    assert endless.taken == 3


def test_a_body_that_is_declared_too_large_is_not_read() -> None:
    client = Client([b"x"], [*KEY, (b"content-length", b"101")])
    assert asked(client) == (413, "too_large")
    assert client.taken == 0


@pytest.mark.parametrize("given", [b"", b"secret", b"Bearer", b"Bearer wrong", b"Basic secret"])
def test_without_the_key_no_byte_of_a_body_is_read(given: bytes) -> None:
    client = Client([b"x"], [(b"authorization", given)])
    assert asked(client) == (401, "unauthorised")
    assert client.taken == 0


def test_half_a_body_times_out() -> None:
    assert asked(Client([b"x", None]), timeout=0.01) == (408, "timeout")


def test_no_more_requests_than_allowed_are_read_at_a_time() -> None:
    async def both() -> tuple:
        guard, stuck, second = guarded(max_waiting=1), Client([None]), Client([b"x"])
        waiting = asyncio.create_task(stuck.ask(guard))
        while not stuck.taken:
            await asyncio.sleep(0)
        refused = await second.ask(guard)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return refused, second.taken, await Client([b"y"]).ask(guard)

    assert asyncio.run(both()) == ((503, "busy"), 0, (200, b"y"))


class Wire:
    """A transport in memory."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.closed.set()

    close = abort

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Served:
    """A server's connections without its port."""

    def __init__(self, app: Any, **limits: Any) -> None:
        kind = connection_type(Limits(**limits))
        self.config = uvicorn.Config(app, http=kind, ws="none", log_config=None)
        self.config.load()
        self.state, self.kind = ServerState(), kind

    def connect(self) -> tuple[Connection, Wire]:
        connection = self.kind(self.config, self.state, {})
        wire = Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        return connection, wire


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", b""),
        (b"POST / HT", b""),
        (HEAD[:-4], b""),
        (HEAD, b"HTTP/1.1 408"),
        (HEAD + b"x", b"HTTP/1.1 408"),
        (HEAD + b"xy", b"HTTP/1.1 200"),
        (HEAD + b"xy" + HEAD[:9], b"HTTP/1.1 200"),
    ],
)
def test_a_connection_on_which_nothing_is_finished_is_closed(sent: bytes, answered: bytes) -> None:
    async def left_alone() -> bytes:
        app = Guard(echo, Limits(timeout=0.02), None)
        connection, wire = Served(app, timeout=0.02).connect()
        if sent:
            connection.data_received(sent)
        await asyncio.wait_for(wire.closed.wait(), 10)
        return wire.written[:12]

    assert asyncio.run(left_alone()) == answered


def test_drops_do_not_keep_a_connection_open() -> None:
    async def dripping() -> int:
        connection, wire = Served(echo, timeout=0.02).connect()
        drops = 0
        connection.data_received(b"POST / HTTP/1.1\r\n")
        while not wire.closed.is_set() and drops < 10**6:
            connection.data_received(b"A: b\r\n" if drops < 100 else b"")
            drops += 1
            await asyncio.sleep(0)
        return drops

    assert asyncio.run(dripping()) < 10**6


def test_no_more_connections_than_allowed_are_kept() -> None:
    async def crowd() -> list[bool]:
        served = Served(echo, max_waiting=2)
        wires = [served.connect()[1] for _ in range(11)]
        return [wire.is_closing() for wire in wires]

    assert asyncio.run(crowd()) == [False] * 8 + [True] * 3

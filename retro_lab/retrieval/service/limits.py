"""What the search service asks of a request before it looks inside: its key, its size, its haste.

A stranger's request costs at most one connection and, with the right key, one body of
`max_bytes`; a connection on which nothing gets finished is closed.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .client import API_KEY_VARIABLE

_CONNECTIONS = 4  # open for each request that may be at work; idle ones are kept for clients


@dataclass(frozen=True)
class Limits:
    """What one request may ask, and how many may be at work.

    Attributes:
        max_k: chunks a query; a client's search in process asks for more than it keeps.
        max_queries: queries a request.
        max_hits: queries times k of a search with texts, which bounds the answer.
        max_bytes: of a request's body, counted as they come.
        timeout: seconds for a request's head, then for its body, then for its answer.
        max_waiting: requests at a time, the one that is searched included.
    """

    max_k: int = 4096
    max_queries: int = 256
    max_hits: int = 65536
    max_bytes: int = 16 * 2**20
    timeout: float = 60.0
    max_waiting: int = 64

    @property
    def max_connections(self) -> int:
        """Connections that are open at a time."""
        return _CONNECTIONS * self.max_waiting


class ServiceError(Exception):
    """An answer that is not a result: HTTP status, code for programs, message and fix for people.

    Args:
        status: HTTP status.
        code: one word for programs.
        message: what is wrong.
        fix: what to do about it.
    """

    def __init__(self, status: int, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message, "fix": fix}}

    def response(self) -> Response:
        return json_response(self.body, self.status)


def json_response(data: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(data), status, media_type="application/json")


def too_much(what: str, asked: int, limit: int) -> ServiceError:
    """The answer to a request above a limit."""
    message = f"{what}: {asked} asked, but the limit is {limit}"
    return ServiceError(413, "too_large", message, "ask less, or serve with a higher limit")


def too_busy(limits: Limits) -> ServiceError:
    """The answer to a request above the number that may be at work."""
    problem = f"{limits.max_waiting} requests are waiting already"
    return ServiceError(503, "busy", problem, "try again later")


class Guard:
    """Lets a request in when its key is right, there is room, and its body came whole and in time.

    Only POST requests are looked at: the others carry no body and show no text of the run.

    Args:
        app: what answers.
        limits: of a request.
        api_key: what `Authorization: Bearer <key>` must hold; None lets everyone in.
    """

    def __init__(self, app: ASGIApp, limits: Limits, api_key: str | None) -> None:
        self.app = app
        self.limits = limits
        self.key = None if api_key is None else api_key.encode(errors="surrogateescape")
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            self._authorise(headers.get(b"authorization", b""))
            if self.inside >= self.limits.max_waiting:
                raise too_busy(self.limits)
            self.inside += 1
            try:
                body = await self._body(headers.get(b"content-length", b""), receive)
                if body is not None:
                    await self.app(scope, _replayed(body, receive), send)
            finally:
                self.inside -= 1
        except ServiceError as error:
            await error.response()(scope, receive, send)

    def _authorise(self, given: bytes) -> None:
        if self.key is None:
            return
        scheme, _, secret = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(secret.strip(), self.key):
            raise ServiceError(
                401,
                "unauthorised",
                "the API key is missing or wrong",
                f"set {API_KEY_VARIABLE}, which is sent as Authorization: Bearer <key>",
            )

    async def _body(self, declared: bytes, receive: Receive) -> bytes | None:
        """The whole body, whatever length was declared; None if the client went away."""
        limit, body = self.limits.max_bytes, bytearray()
        if declared.isdigit() and int(declared) > limit:
            raise too_much("bytes a request", int(declared), limit)
        try:
            async with asyncio.timeout(self.limits.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_much("bytes a request", len(body), limit)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise ServiceError(
                408,
                "timeout",
                f"the request did not come whole in {self.limits.timeout:g} seconds",
                "send less a request, or serve with a larger timeout",
            ) from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` for a request whose body was read already."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again


class Connection(H11Protocol):
    """A connection that is closed when too many are open, or a request or its answer gets stuck.

    Attributes:
        limits: of the service.
    """

    limits = Limits()
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.abort()
        else:
            self._allow(self.limits.timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            # For its body, for the search, and for sending the answer.
            self._allow(3 * self.limits.timeout)

    def _allow(self, seconds: float) -> None:
        """Closes the connection after so long, in place of when it was to be closed before."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)


def connection_type(limits: Limits) -> type[Connection]:
    """The `http` of a uvicorn configuration, with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})

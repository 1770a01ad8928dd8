"""Limits of the search service on requests: API key, size, number and time.

A request without the right key costs at most one connection; one with the key, also a body of
`max_bytes`. Connections without progress are closed.
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

from retro_lab.config.errors import UserError

from .client import API_KEY_VARIABLE

_CONNECTIONS = 4  # open connections for each concurrent request; idle ones are kept for clients


@dataclass(frozen=True)
class Limits:
    """Limits on a request and on concurrent requests.

    Attributes:
        max_k: chunks a query; larger than a table's k_store, since a client fetches a margin.
        max_queries: queries a request.
        max_hits: queries times k in a search with texts, which bounds the answer.
        max_bytes: bytes of a request's body, counted on arrival.
        max_new_tokens: tokens written for a prompt.
        max_context: tokens of a completion, prompts with what is written; each row of the batch
            counts as long as the longest.
        timeout: seconds for a request's head, then for its body, then for its answer.
        max_waiting: concurrent requests, including the running one.
    """

    max_k: int = 4096
    max_queries: int = 256
    max_hits: int = 65536
    max_bytes: int = 16 * 2**20
    max_new_tokens: int = 1024
    max_context: int = 8192
    timeout: float = 60.0
    max_waiting: int = 64

    @property
    def max_connections(self) -> int:
        """Limit on open connections."""
        return _CONNECTIONS * self.max_waiting


class ServiceError(Exception):
    """An error answer: HTTP status, code for programs, message and fix for users.

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
    """A JSON response."""
    return Response(orjson.dumps(data), status, media_type="application/json")


def too_much(what: str, asked: int, limit: int) -> ServiceError:
    """The error for a request above a limit."""
    message = f"{what}: {asked} asked, but the limit is {limit}"
    return ServiceError(413, "too_large", message, "ask less, or serve with a higher limit")


def too_busy(limits: Limits) -> ServiceError:
    """The error for a request beyond `max_waiting`."""
    problem = f"{limits.max_waiting} requests are waiting already"
    return ServiceError(503, "busy", problem, "try again later")


def impossible(error: UserError) -> ServiceError:
    """The error for a request that the run or its data cannot fulfil."""
    return ServiceError(422, "impossible", error.message, error.fix or "see /docs")


class Guard:
    """Passes on requests with the right key and a complete, timely body, while there is room.

    POST requests and those under /v1 are checked: others carry no body and expose no text or name
    of the run.

    Args:
        app: the application behind the guard.
        limits: limits on a request.
        api_key: required value of `Authorization: Bearer <key>`; None disables the check.
    """

    def __init__(self, app: ASGIApp, limits: Limits, api_key: str | None) -> None:
        self.app = app
        self.limits = limits
        self.key = None if api_key is None else api_key.encode(errors="surrogateescape")
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_checked(scope):
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
        """The whole body, with its size checked; None if the client disconnected."""
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


def _is_checked(scope: Scope) -> bool:
    return scope["method"] == "POST" or scope["path"].startswith("/v1/")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that first yields the body already read."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again


class Connection(H11Protocol):
    """A connection that is closed if too many are open or its request or answer stalls.

    Attributes:
        limits: the service's limits.
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
            # Time for the body, the search, and the answer.
            self._allow(3 * self.limits.timeout)

    def _allow(self, seconds: float) -> None:
        """Closes the connection after `seconds`, replacing an earlier deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)


def connection_type(limits: Limits) -> type[Connection]:
    """The `http` class of a uvicorn configuration, with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})

"""`/v1/completions` and `/v1/models` in OpenAI's form: text continued by the run's model.

The model and its search are handed in as a `Completer`. Stop strings, limits and the two forms of
an answer, whole and streamed, are here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from retro_lab.config.errors import UserError

from ..new_text import Found
from .completion_messages import (
    Choice,
    Completion,
    CompletionRequest,
    Model,
    ModelList,
    ReadNeighbour,
    Usage,
)
from .limits import Limits, ServiceError, impossible, json_response, too_much
from .worker import Worker

_LETTERS = 32  # more than the tokens of a text have on average


class Asked(NamedTuple):
    """What to write: most new tokens for each prompt, and the settings of the draw."""

    prompts: Sequence[str]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int


class Piece(NamedTuple):
    """Text that a prompt's continuation grows by, and its tokens so far."""

    row: int
    text: str
    tokens: int


Read = Callable[[int, int, Sequence[Found]], None]
"""Called with a prompt's number, its tokens so far, and the neighbours that it reads from here."""


class Completer(Protocol):
    """A model that continues text; `name` is its name in requests and answers."""

    name: str

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt."""
        ...

    def write(self, asked: Asked, read: Read) -> Iterator[Piece]:
        """Pieces of the continuations, with one step of the model at most for each."""
        ...


class StopText:
    """Passes text on until one of the stop strings, which is left out with all that follows.

    Attributes:
        ended: whether a stop string has come.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops, self.ended, self._held = stops, False, ""

    def add(self, piece: str) -> str:
        """The text that is certain by now; the beginning of a stop string is held back."""
        text = self._held + piece
        places = [(place + len(s), place) for s in self.stops if (place := text.find(s)) >= 0]
        if places:
            self.ended, self._held = True, ""
            _, place = min(places)  # the first that is complete, however the text is cut
            return text[:place]
        begun = (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        certain = len(text) - max(begun, default=0)
        self._held = text[certain:]
        return text[:certain]

    def rest(self) -> str:
        """What is held back, for the end of the text."""
        return self._held


class Delta(NamedTuple):
    """Text that a choice grows by, and why it ends here, if it does."""

    row: int
    text: str
    finish_reason: str | None = None


class Writing:
    """One answer in the making.

    Args:
        completer: writes it.
        request: what is asked.
        limits: of the service.

    Attributes:
        prompt_tokens: of all prompts; known once `deltas` is asked.
        tokens: new tokens of each prompt.
        neighbours: all that were read, in order.
    """

    def __init__(self, completer: Completer, request: CompletionRequest, limits: Limits) -> None:
        self.completer, self.request, self.limits = completer, request, limits
        self.head = {
            "id": f"cmpl-{uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": completer.name,
        }
        self.prompt_tokens = 0
        self.tokens = [0] * len(request.prompt)
        self.neighbours: list[ReadNeighbour] = []

    @property
    def usage(self) -> Usage:
        new = sum(self.tokens)
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=new,
            total_tokens=self.prompt_tokens + new,
        )

    def deltas(self) -> Iterator[Delta]:
        """The choices' text, with one step of the model at most for each delta."""
        request = self.request
        self._count_prompts()
        seed = secrets.randbits(32) if request.seed is None else request.seed
        draw = request.temperature, request.top_p, seed
        stops = [StopText(request.stop) for _ in request.prompt]
        for row, text, tokens in self.completer.write(
            Asked(request.prompt, request.max_tokens, *draw), self._read
        ):
            if stops[row].ended:
                yield Delta(row, "")
                continue
            self.tokens[row] = tokens
            certain = stops[row].add(text)
            yield Delta(row, certain, "stop" if stops[row].ended else None)
            if all(stop.ended for stop in stops):
                return
        for row, stop in enumerate(stops):
            if not stop.ended:
                full = self.tokens[row] == request.max_tokens
                yield Delta(row, stop.rest(), "length" if full else "stop")

    def _count_prompts(self) -> None:
        lengths = self.completer.lengths(self.request.prompt)
        self.prompt_tokens = sum(lengths)
        most = len(lengths) * (max(lengths) + self.request.max_tokens)
        if most > self.limits.max_context:
            what = "prompts times tokens of the longest one with max_tokens"
            raise too_much(what, most, self.limits.max_context)

    def _read(self, row: int, tokens: int, found: Sequence[Found]) -> None:
        self.neighbours += [ReadNeighbour(index=row, tokens=tokens, **f._asdict()) for f in found]


class Events(StreamingResponse):
    """Server-sent events, whose source is closed as soon as nobody listens."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.events.aclose()


def add_completions(
    router: APIRouter, completer: Completer | UserError, worker: Worker, limits: Limits
) -> None:
    """Adds the two endpoints; a `UserError` says why nothing can be completed here."""
    started = int(time.time())

    @router.get("/v1/models", summary="The models that can be asked for completions")
    async def models() -> ModelList:
        """The run's name, in OpenAI's form; an empty list where the service only searches."""
        names = [] if isinstance(completer, UserError) else [completer.name]
        return ModelList(data=[Model(id=name, created=started) for name in names])

    @router.post(
        "/v1/completions",
        response_model=Completion,
        summary="Continue text, with retrieval on the way",
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def completions(request: CompletionRequest, connection: Request) -> Response:
        """Writes with the run's model, which searches the index at the end of every chunk.

        The fields are OpenAI's, for its clients. With stream the text comes as server-sent
        events, of which the last is [DONE].
        """
        if isinstance(completer, UserError):
            raise completer
        _check(request, completer, limits)
        writing = Writing(completer, request, limits)
        deltas = worker.steps(writing.deltas)
        if not request.stream:
            return json_response(await _whole(writing, deltas, connection.is_disconnected))
        first = await anext(deltas)  # so that an error before it has its own status
        return Events(_events(writing, first, deltas))


def _check(request: CompletionRequest, completer: Completer, limits: Limits) -> None:
    if request.model not in (None, completer.name):
        raise ServiceError(
            404,
            "no_such_model",
            f"model {request.model!r} is asked, but {completer.name!r} is served",
            "give the name that /v1/models shows, or leave model out",
        )
    if request.max_tokens > limits.max_new_tokens:
        raise too_much("max_tokens", request.max_tokens, limits.max_new_tokens)
    # What follows from the limit on tokens, before anything is split into tokens.
    count, size = len(request.prompt), sum(map(len, request.prompt))
    if count * request.max_tokens > limits.max_context:
        raise too_much("prompts times max_tokens", count * request.max_tokens, limits.max_context)
    if size > _LETTERS * limits.max_context:
        raise too_much("letters of all prompts", size, _LETTERS * limits.max_context)


async def _whole(
    writing: Writing,
    deltas: AsyncGenerator[Delta, None],
    is_left: Callable[[], Awaitable[bool]],
) -> dict[str, Any]:
    """The whole answer; what there is of it, for nobody, if the client leaves before its end."""
    choices = [Choice(index=row) for row in range(len(writing.request.prompt))]
    async with aclosing(deltas):
        async for row, text, reason in deltas:
            choices[row].text += text
            choices[row].finish_reason = reason or choices[row].finish_reason
            if await is_left():
                break
    answer = {
        **writing.head,
        "choices": [choice.model_dump() for choice in choices],
        "usage": writing.usage.model_dump(),
    }
    if writing.request.show_neighbours:
        answer["retro_lab"] = {"neighbours": [one.model_dump() for one in writing.neighbours]}
    return answer


async def _events(
    writing: Writing, first: Delta, others: AsyncGenerator[Delta, None]
) -> AsyncGenerator[bytes, None]:
    try:
        if event := _event_of(writing, first):
            yield event
        async for delta in others:
            if event := _event_of(writing, delta):
                yield event
        if writing.request.includes_usage:
            yield _event({**writing.head, "choices": [], "usage": writing.usage.model_dump()})
        yield b"data: [DONE]\n\n"
    except ServiceError as error:
        yield _event(error.body)
    except UserError as error:
        yield _event(impossible(error).body)
    finally:
        await others.aclose()


def _event_of(writing: Writing, delta: Delta) -> bytes | None:
    """The event of a delta; None if it says nothing."""
    row, text, reason = delta
    if not text and reason is None:
        return None
    choice = Choice(index=row, text=text, finish_reason=reason)
    return _event({**writing.head, "choices": [choice.model_dump()]})


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"

"""The search service: a run's index over HTTP, with limits, timeouts and helpful errors.

`/search` takes text, tokens or vectors; `/candidates` serves `retriever=http`; `/health` describes
the served index; `/docs` is generated from the types below.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, Self, TypeVar

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from starlette.exceptions import HTTPException

from retro_lab.config.errors import UserError

from ..base import NO_CHUNK, Neighbours
from .limits import (
    Guard,
    Limits,
    ServiceError,
    connection_type,
    json_response,
    too_busy,
    too_much,
)
from .served_index import Hit, ServedIndex

_T = TypeVar("_T")
_BEARER = HTTPBearer(auto_error=False)  # for the documentation; the guard checks the key
_INT64_MAX = 2**63 - 1


class ErrorDetail(BaseModel):
    code: str
    message: str
    fix: str


class ErrorAnswer(BaseModel):
    """The body of every error answer."""

    error: ErrorDetail


def _is_text(text: str) -> str:
    """The text if UTF-8 can encode it; JSON can hold half of a surrogate pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place = f"at place {error.start}"
            raise ValueError(f"half of a surrogate pair {place}, which is no character") from None
    return text


Text = Annotated[str, AfterValidator(_is_text)]
Token = Annotated[int, Field(ge=-1, le=_INT64_MAX)]
Ids = Annotated[int, Field(ge=NO_CHUNK, le=_INT64_MAX)]
Vectors = list[Annotated[list[FiniteFloat], Field(min_length=1)]]


class SearchRequest(BaseModel):
    """A batch of queries as texts, tokens or embeddings, and k, the chunks to find for each."""

    model_config = ConfigDict(extra="forbid")

    texts: list[Text] | None = Field(None, description="text, searched as the run's own chunks are")
    tokens: list[list[Token]] | None = Field(None, description="ids of the run's tokenizer")
    embeddings: Vectors | None = Field(
        None, description="vectors of the run's embedder, as queries"
    )
    k: int = Field(10, ge=1)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [name for name in ("texts", "tokens", "embeddings") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("give exactly one of texts, tokens and embeddings, not empty")
        return self

    def size(self) -> int:
        """Number of queries."""
        return len(self.texts or self.tokens or self.embeddings or ())


class SearchAnswer(BaseModel):
    """The hits of each query, best first."""

    results: list[list[Hit]]


class CandidatesRequest(BaseModel):
    """Queries by chunk id in the shared store, or by tokens at chunk id -1."""

    model_config = ConfigDict(extra="forbid")

    index: Text = Field(description="the key that /health gave: another index is refused")
    chunk_ids: list[Ids] = Field(min_length=1)
    tokens: list[list[Token]]
    embeddings: Vectors | None = None
    k: int = Field(ge=1)

    @model_validator(mode="after")
    def _one_row_a_query(self) -> Self:
        rows = {len(part) for part in (self.tokens, self.embeddings) if part is not None}
        if rows != {len(self.chunk_ids)}:
            raise ValueError("tokens and embeddings need one row a chunk id")
        return self


class CandidatesAnswer(BaseModel):
    """Ragged ids and scores of each query's chunks, best first."""

    ids: list[list[int]]
    scores: list[list[float]]


class Health(BaseModel):
    """The served index: its content keys, size and limits."""

    status: str
    retriever: str
    needs_embeddings: bool
    index: str
    chunks: str
    size: int
    limits: dict[str, int | float]


def answer(app: FastAPI, listener: socket.socket, limits: Limits) -> None:
    """Serves on a socket until interrupted, then finishes open requests.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    settings = uvicorn.Config(
        app,
        http=connection_type(limits),
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=int(limits.timeout) + 1,
    )
    uvicorn.Server(settings).run(sockets=[listener])


def create_app(
    served: ServedIndex, limits: Limits | None = None, api_key: str | None = None
) -> FastAPI:
    """The application; runs one search at a time.

    Args:
        served: the loaded index.
        limits: limits on a request; None for the defaults.
        api_key: required value of `Authorization: Bearer <key>` for a search; None disables the
            check.
    """
    limits = limits or Limits()
    worker = _Worker(limits)
    chunks = served.chunks_key

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.stop()

    app = FastAPI(title="retro_lab search", lifespan=lifespan)
    app.add_middleware(Guard, limits=limits, api_key=api_key)
    _answer_errors(app)
    failures: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer} for status in (401, 408, 409, 413, 422, 500, 503, 504)
    }
    guarded = APIRouter(dependencies=[Depends(_BEARER)], responses=failures)

    @app.get("/health")
    async def health() -> Health:
        return Health(
            status="ok",
            retriever=served.config.name,
            needs_embeddings=served.config.needs_embeddings,
            index=served.key,
            chunks=chunks,
            size=served.size,
            limits=asdict(limits),
        )

    @guarded.post("/search", response_model=SearchAnswer)
    async def search(request: SearchRequest) -> Response:
        _within(request.size(), request.k, limits)
        if request.size() * request.k > limits.max_hits:
            raise too_much("queries times k", request.size() * request.k, limits.max_hits)
        if request.texts:
            work, asked = served.search_texts, request.texts
        elif request.tokens:
            work, asked = served.search_tokens, request.tokens
        else:
            work, asked = served.search_embeddings, request.embeddings
        found: list[list[Hit]] = await worker.run(lambda: work(asked, request.k))  # type: ignore[arg-type]
        return json_response({"results": found})

    @guarded.post("/candidates", response_model=CandidatesAnswer)
    async def candidates(request: CandidatesRequest) -> Response:
        _within(len(request.chunk_ids), request.k, limits)
        if request.index != served.key:
            raise ServiceError(
                409,
                "other_index",
                f"index {request.index} was asked, but {served.key} is served by now",
                "run the command again, or serve the index that it began with",
            )
        columns = request.chunk_ids, request.tokens, request.embeddings
        found = await worker.run(lambda: served.candidates(*columns, request.k))
        return json_response(_ragged(found))

    app.include_router(guarded)
    return app


class _Worker:
    """Runs searches one after the other, in a thread beside the event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places = threading.BoundedSemaphore(limits.max_waiting)
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="search")

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of `work`; 503 if too many wait, 504 if it takes too long."""
        if not self.places.acquire(blocking=False):
            raise too_busy(self.limits)
        future = self.pool.submit(work)
        future.add_done_callback(lambda _: self.places.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.timeout)
        except TimeoutError:
            raise ServiceError(
                504,
                "timeout",
                f"no result in {self.limits.timeout:g} seconds",
                "ask fewer queries or a smaller k a request, or serve with a larger timeout",
            ) from None

    def stop(self) -> None:
        """Waits for the running search."""
        self.pool.shutdown(wait=True, cancel_futures=True)


def _answer_errors(app: FastAPI) -> None:
    """Returns every error in the form of `ErrorAnswer`."""

    @app.exception_handler(ServiceError)
    async def refused(_: Request, error: ServiceError) -> Response:
        return error.response()

    @app.exception_handler(UserError)
    async def mistaken(_: Request, error: UserError) -> Response:
        fix = error.fix or "see /docs"
        return ServiceError(422, "impossible", error.message, fix).response()

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"{place}: {first['msg'].removeprefix('Value error, ')}"
        message = message.encode(errors="backslashreplace").decode()  # clients choose keys' names
        return ServiceError(422, "invalid_request", message, "see /docs").response()

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # invalid UTF-8 or excessive nesting
            message = "the body is no JSON in UTF-8 of bearable depth"
            return ServiceError(422, "invalid_request", message, "see /docs").response()
        message = f"{request.method} {request.url.path}: {error.detail}"
        return ServiceError(error.status_code, "no_such_request", message, "see /docs").response()

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:  # the server logs its traceback
        message, fix = "the search failed", "see the service's log"
        return ServiceError(500, "internal", message, fix).response()


def _within(queries: int, k: int, limits: Limits) -> None:
    if queries > limits.max_queries:
        raise too_much("queries a request", queries, limits.max_queries)
    if k > limits.max_k:
        raise too_much("k", k, limits.max_k)


def _ragged(found: Neighbours) -> dict[str, list]:
    counts = (found.ids != NO_CHUNK).sum(axis=1).tolist()
    return {
        name: [row[:count].tolist() for row, count in zip(values, counts, strict=True)]
        for name, values in found._asdict().items()
    }

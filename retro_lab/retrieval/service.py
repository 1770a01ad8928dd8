"""The search service: a run's index over HTTP, with limits, timeouts and errors that say the fix.

`/search` is for people and programs that have text, tokens or vectors; `/candidates` is for
`retriever=http`; `/health` says what is served; `/docs` is made from the types below.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self, TypeVar

import orjson
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from retro_lab.config.errors import UserError
from retro_lab.retrieval.base import NO_CHUNK, Neighbours
from retro_lab.retrieval.http_client import API_KEY_VARIABLE
from retro_lab.retrieval.served_index import Hit, ServedIndex

_T = TypeVar("_T")
_BEARER = HTTPBearer(auto_error=False)
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Limits:
    """What one request may ask, and how many may wait.

    Attributes:
        max_k: chunks a query; a client's search in process asks for more than it keeps.
        max_queries: queries a request.
        max_hits: queries times k of a search with texts, which bounds the answer.
        max_bytes: of a request's body.
        timeout: seconds from a request's arrival to its answer.
        max_waiting: requests at a time, the one that is searched included.
    """

    max_k: int = 4096
    max_queries: int = 256
    max_hits: int = 65536
    max_bytes: int = 16 * 2**20
    timeout: float = 60.0
    max_waiting: int = 64


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
        return _json(self.body, self.status)


class ErrorDetail(BaseModel):
    code: str
    message: str
    fix: str


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a result."""

    error: ErrorDetail


Token = Annotated[int, Field(ge=-1, le=_INT64_MAX)]
Ids = Annotated[int, Field(ge=NO_CHUNK, le=_INT64_MAX)]
Vectors = list[Annotated[list[FiniteFloat], Field(min_length=1)]]


class SearchRequest(BaseModel):
    """A batch of queries in one of three forms, and how many chunks each wants."""

    model_config = ConfigDict(extra="forbid")

    texts: list[str] | None = Field(None, description="text, searched as the run's own chunks are")
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
        """Queries of the batch."""
        return len(self.texts or self.tokens or self.embeddings or ())


class SearchAnswer(BaseModel):
    """The hits of each query, best first."""

    results: list[list[Hit]]


class CandidatesRequest(BaseModel):
    """Chunks of the store that client and service share, or other text at chunk id -1."""

    model_config = ConfigDict(extra="forbid")

    index: str = Field(description="the key that /health gave: another index is refused")
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
    """Ids and scores of each query's chunks, best first, as many as there are."""

    ids: list[list[int]]
    scores: list[list[float]]


class Health(BaseModel):
    """What is served, under keys of its content."""

    status: str
    retriever: str
    needs_embeddings: bool
    index: str
    chunks: str
    size: int
    limits: dict[str, int | float]


def create_app(
    served: ServedIndex, limits: Limits | None = None, api_key: str | None = None
) -> FastAPI:
    """The application; one search runs at a time, and uses the cores that its library uses.

    Args:
        served: the index, loaded.
        limits: of a request; the defaults if None.
        api_key: what `Authorization: Bearer <key>` must hold, except for `/health`; None lets
            everyone in.
    """
    limits = limits or Limits()
    worker = _Worker(limits)
    chunks = served.chunks_key

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.stop()

    def authorise(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> None:
        if api_key is None:
            return
        secret = "" if given is None else given.credentials
        if not hmac.compare_digest(secret.encode(), api_key.encode()):
            raise ServiceError(
                401,
                "unauthorised",
                "the API key is missing or wrong",
                f"set {API_KEY_VARIABLE}, which is sent as Authorization: Bearer <key>",
            )

    app = FastAPI(title="retro_lab search", lifespan=lifespan)
    app.add_middleware(_BodyLimit, limit=limits.max_bytes)
    _answer_errors(app)
    failures: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer} for status in (401, 409, 411, 413, 422, 500, 503, 504)
    }
    guarded = APIRouter(dependencies=[Depends(authorise)], responses=failures)

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
            raise _too_much("queries times k", request.size() * request.k, limits.max_hits)
        if request.texts:
            work, asked = served.search_texts, request.texts
        elif request.tokens:
            work, asked = served.search_tokens, request.tokens
        else:
            work, asked = served.search_embeddings, request.embeddings
        found: list[list[Hit]] = await worker.run(lambda: work(asked, request.k))  # type: ignore[arg-type]
        return _json({"results": found})

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
        return _json(_ragged(found))

    app.include_router(guarded)
    return app


class _Worker:
    """Runs searches one after the other, beside the loop that answers."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places = threading.BoundedSemaphore(limits.max_waiting)
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="search")

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of `work`; 503 if too many wait, 504 if it takes too long."""
        if not self.places.acquire(blocking=False):
            problem = f"{self.limits.max_waiting} requests are waiting already"
            raise ServiceError(503, "busy", problem, "try again later")
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
        """Waits for the search that runs."""
        self.pool.shutdown(wait=True, cancel_futures=True)


class _BodyLimit:
    """Refuses a body by its declared length, before any of it is read."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self.app
        if scope["type"] == "http" and scope["method"] == "POST":
            declared = dict(scope["headers"]).get(b"content-length", b"")
            if not declared.isdigit():
                problem = "the request does not say how long it is"
                answer = ServiceError(
                    411, "length_required", problem, "send Content-Length"
                ).response()
            elif int(declared) > self.limit:
                answer = _too_much("bytes a request", int(declared), self.limit).response()
        await answer(scope, receive, send)


def _answer_errors(app: FastAPI) -> None:
    """Every error in the one form that `ErrorAnswer` has."""

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
        return ServiceError(422, "invalid_request", message, "see /docs").response()

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return ServiceError(error.status_code, "no_such_request", message, "see /docs").response()

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:  # the server logs its traceback
        message, fix = "the search failed", "see the service's log"
        return ServiceError(500, "internal", message, fix).response()


def _within(queries: int, k: int, limits: Limits) -> None:
    if queries > limits.max_queries:
        raise _too_much("queries a request", queries, limits.max_queries)
    if k > limits.max_k:
        raise _too_much("k", k, limits.max_k)


def _too_much(what: str, asked: int, limit: int) -> ServiceError:
    message = f"{what}: {asked} asked, but the limit is {limit}"
    return ServiceError(413, "too_large", message, "ask less, or serve with a higher limit")


def _ragged(found: Neighbours) -> dict[str, list]:
    counts = (found.ids != NO_CHUNK).sum(axis=1).tolist()
    return {
        name: [row[:count].tolist() for row, count in zip(values, counts, strict=True)]
        for name, values in found._asdict().items()
    }


def _json(data: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(data), status, media_type="application/json")

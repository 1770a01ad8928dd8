"""The search service: a run's index over HTTP, with limits, timeouts and helpful errors.

`/search` takes text, tokens or vectors; `/candidates` serves `retriever=http`; `/v1/completions`
writes with the run's model; `/health` describes the served index; `/` is a page to search with, and
`/docs` describes all of it.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from retro_lab.config.errors import UserError

from ..base import NO_CHUNK, Neighbours
from .completions import Completer, add_completions
from .limits import (
    Guard,
    Limits,
    ServiceError,
    connection_type,
    impossible,
    json_response,
    too_much,
)
from .messages import (
    CandidatesAnswer,
    CandidatesRequest,
    ErrorAnswer,
    Health,
    SearchAnswer,
    SearchRequest,
)
from .pages import add_pages
from .served_index import Hit, ServedIndex
from .worker import Worker

_BEARER = HTTPBearer(auto_error=False)  # for the documentation; the guard checks the key
_NO_MODEL = UserError("this service only searches", fix="ask /search, or serve a trained run")
_FAILURES = (401, 404, 408, 409, 413, 422, 500, 503, 504)


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
    served: ServedIndex,
    limits: Limits | None = None,
    api_key: str | None = None,
    completer: Completer | UserError = _NO_MODEL,
) -> FastAPI:
    """The application; does one search, or one step of a completion, at a time.

    Args:
        served: the loaded index.
        limits: limits on a request; None for the defaults.
        api_key: required value of `Authorization: Bearer <key>` for a search or a completion; None
            disables the check.
        completer: continues text; or the answer to whoever asks for that.
    """
    limits = limits or Limits()
    worker = Worker(limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.stop()

    app = FastAPI(
        title="retro_lab search", version="1", lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(Guard, limits=limits, api_key=api_key)
    _answer_errors(app)
    failures: dict[int | str, dict[str, Any]] = {code: {"model": ErrorAnswer} for code in _FAILURES}
    guarded = APIRouter(dependencies=[Depends(_BEARER)], responses=failures)
    _add_search(app, guarded, served, worker)
    add_completions(guarded, completer, worker, limits)
    app.include_router(guarded)
    add_pages(app, served, needs_key=api_key is not None)
    return app


def _add_search(app: FastAPI, guarded: APIRouter, served: ServedIndex, worker: Worker) -> None:
    """Adds `/search`, `/candidates` and, without the key, `/health`."""
    limits, chunks = worker.limits, served.chunks_key

    @app.get("/health", summary="What is served, and within which limits")
    async def health() -> Health:
        """Content keys, size and limits of the served index; needs no key."""
        return Health(
            status="ok",
            retriever=served.config.name,
            needs_embeddings=served.config.needs_embeddings,
            index=served.key,
            chunks=chunks,
            size=served.size,
            limits=asdict(limits),
        )

    @guarded.post("/search", response_model=SearchAnswer, summary="Search the database")
    async def search(request: SearchRequest) -> Response:
        """The chunks nearest to each query, with their document, text and continuation.

        A query is a text, a row of tokens or a vector: exactly one of the three fields is given.
        """
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

    @guarded.post(
        "/candidates", response_model=CandidatesAnswer, summary="Candidates for retriever=http"
    )
    async def candidates(request: CandidatesRequest) -> Response:
        """Ids and scores of each query's chunks, its own document's included, without texts.

        Other runs ask this with `retriever=http`, and filter what they get.
        """
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


def _answer_errors(app: FastAPI) -> None:
    """Returns every error in the form of `ErrorAnswer`."""

    @app.exception_handler(ServiceError)
    async def refused(_: Request, error: ServiceError) -> Response:
        return error.response()

    @app.exception_handler(UserError)
    async def mistaken(_: Request, error: UserError) -> Response:
        return impossible(error).response()

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
        message, fix = "the request failed", "see the service's log"
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

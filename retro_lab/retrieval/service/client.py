"""`retriever=http`: search by a service, with the same results as in process.

A query is a chunk of a store that client and service share, so the service uses its own vectors and
texts, and the client needs no embedder. Content keys identify index and chunks: cached results
depend on the served index, and a service with other chunks is refused.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson

from retro_lab.config.errors import UserError, refuse_passwords
from retro_lab.config.schema import HttpRetrieverConfig
from retro_lab.store.workspace import Workspace

from ..base import NO_CHUNK, Neighbours, Queries, RowSource

if TYPE_CHECKING:
    import httpx

API_KEY_VARIABLE = "RETRO_LAB_API_KEY"

_FILE = "served.json"
_BUSY = (429, 502, 503, 504)
_FIRST_WAIT = 0.5  # seconds
_ROWS = 65536  # rows hashed at once
_KEY_DIGITS = 16


def chunks_key(chunk_ids: np.ndarray, tokens: RowSource) -> str:
    """Content key of a database: 16 hex digits, equal for equal chunks with equal ids.

    Args:
        chunk_ids: int [S], global chunk ids.
        tokens: int [S, M], -1 for padding and document boundaries.
    """
    found = hashlib.sha256(np.array((len(tokens), tokens[:1].shape[1]), "<i8").tobytes())
    found.update(chunk_ids.astype("<i8").tobytes())
    for start in range(0, len(tokens), _ROWS):
        found.update(tokens[start : start + _ROWS].astype("<i4").tobytes())
    return found.hexdigest()[:_KEY_DIGITS]


class HttpRetriever:
    """Search by a service; `build` only records the service's keys."""

    needs_embeddings = HttpRetrieverConfig.needs_embeddings
    exact = True  # recall is measured where the service's index was built

    def __init__(self, config: HttpRetrieverConfig) -> None:
        self.config = config
        self.chunks = self.index = ""

    @classmethod
    def connect(cls, config: HttpRetrieverConfig) -> Service:
        """The service at the configured address; sends no request."""
        return Service(config)

    @cached_property
    def service(self) -> Service:
        return self.connect(self.config)

    @classmethod
    def index_fields(cls, config: HttpRetrieverConfig) -> dict[str, Any]:
        """The key of the served index and search settings, from the configuration or the service.

        Raises:
            UserError: no answer.
        """
        return {"served": config.index or cls.connect(config).health()["index"]}

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Compares the service's database with this one; ignores embeddings.

        Raises:
            UserError: no answer, or the service holds other chunks.
        """
        self.chunks = chunks_key(chunk_ids, tokens)
        health = self.service.health()
        self.index = self.config.index or health["index"]
        self._check(health)
        return {"served": health["retriever"]}

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k best chunks by the service's search.

        Raises:
            UserError: no answer, a refusal, or another index since `build`.
        """
        found = Neighbours.empty(len(queries.chunk_ids), k)
        size = min(self.config.batch_size, self.service.max_queries)
        for start in range(0, len(found.ids), size):
            batch = queries.take(slice(start, start + size))
            answer = self.service.candidates(self._request(batch, k))
            for row, (ids, scores) in enumerate(zip(answer["ids"], answer["scores"], strict=True)):
                found.ids[start + row, : len(ids)] = ids
                found.scores[start + row, : len(ids)] = scores
        return found

    def save(self, folder: Path) -> None:
        keys = {"chunks": self.chunks, "index": self.index}
        (folder / _FILE).write_bytes(orjson.dumps(keys))

    @classmethod
    def load(cls, folder: Path, config: HttpRetrieverConfig) -> Self:
        """Reads the keys and compares them with the service's; raises as `build`."""
        retriever = cls(config)
        keys = orjson.loads((folder / _FILE).read_bytes())
        retriever.chunks, retriever.index = keys["chunks"], keys["index"]
        retriever._check(retriever.service.health())
        return retriever

    def _check(self, health: Mapping[str, Any]) -> None:
        for what, ours in (("chunks", self.chunks), ("index", self.index)):
            if health[what] != ours:
                pinned = "" if self.config.index is None else ", or set retriever.index=null"
                raise UserError(
                    f"retriever.url={self.config.url} serves {what} {health[what]}, but this run "
                    f"has {what} {ours}",
                    fix="serve a run with the same corpus, tokenizer and chunk size, or take its "
                    f"settings here{pinned}",
                )

    def _request(self, queries: Queries, k: int) -> dict[str, Any]:
        request: dict[str, Any] = {
            "index": self.index,
            "k": k,
            "chunk_ids": queries.chunk_ids.tolist(),
            "tokens": queries.tokens.tolist(),
        }
        outside = (queries.chunk_ids == NO_CHUNK).any()  # the service has stored vectors
        if outside and queries.embeddings is not None and self.service.needs_embeddings:
            request["embeddings"] = queries.embeddings.tolist()
        return request


class Service:
    """Requests to a search service on persistent connections, retried if it is busy.

    Args:
        config: address, timeout and retries.
        sleep: waits between attempts.
        client: an HTTP client; None opens one.
    """

    def __init__(
        self,
        config: HttpRetrieverConfig,
        sleep: Callable[[float], None] = time.sleep,
        client: httpx.Client | None = None,
    ) -> None:
        self.config = config
        self.sleep = sleep
        self.client = open_client(config) if client is None else client
        self.max_queries = config.batch_size
        self.needs_embeddings = False

    def health(self) -> dict[str, Any]:
        """Description of the served index: `retriever`, keys `index` and `chunks`, and limits."""
        health = self._ask("GET", "/health", None)
        try:
            self.max_queries = int(health["limits"]["max_queries"])
            self.needs_embeddings = health["needs_embeddings"]
        except (KeyError, TypeError):
            raise self._not_a_service() from None
        return health

    def candidates(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ragged `ids` and `scores` of each query."""
        return self._ask("POST", "/candidates", orjson.dumps(request))

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        import httpx

        headers = {} if body is None else {"Content-Type": "application/json"}
        for attempt in range(self.config.retries + 1):
            if attempt:
                self.sleep(_FIRST_WAIT * 2 ** (attempt - 1))
            try:
                response = self.client.request(method, path, content=body, headers=headers)
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
                continue
            if response.status_code not in _BUSY:
                return self._answer(response)
            problem = f"it answered {response.status_code}"
        raise UserError(
            f"retriever.url={self.config.url} did not answer in {self.config.retries + 1} "
            f"attempts: {problem}",
            fix="start it: python -m retro_lab serve run=runs/..., or correct retriever.url; for a "
            "slow service raise retriever.timeout or lower retriever.batch_size",
        )

    def _answer(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = orjson.loads(response.content)
            if response.status_code == 200:
                return answer
            error = answer["error"]
            message = f"retriever.url={self.config.url} refused: {error['message']}"
            raise UserError(message, fix=error["fix"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise self._not_a_service() from None

    def _not_a_service(self) -> UserError:
        return UserError(
            f"retriever.url={self.config.url} is no search service of retro_lab",
            fix="give the address that python -m retro_lab serve printed",
        )


def open_client(config: HttpRetrieverConfig) -> httpx.Client:
    """An HTTP client for the service, with persistent connections.

    Raises:
        UserError: the extra `serve` isn't installed, the address is no URL or has a password, or
            the API key is no valid header.
    """
    try:
        import httpx
    except ImportError:
        raise UserError(
            "retriever=http needs the package httpx", fix='pip install -e ".[serve]"'
        ) from None
    refuse_passwords([f"retriever.url={config.url}"])
    key = os.environ.get(API_KEY_VARIABLE)
    if key and not (key.isascii() and key.isprintable()):  # httpx would print it in its error
        raise UserError(
            f"{API_KEY_VARIABLE} holds a character that no HTTP header takes",
            fix="choose a key of printable ASCII characters, for the service as well",
        )
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return httpx.Client(base_url=config.url, timeout=config.timeout, headers=headers)
    except httpx.InvalidURL as error:
        raise UserError(
            f"retriever.url={config.url}: {error}", fix="retriever.url=http://127.0.0.1:8765"
        ) from None

"""A search service without a port: the application behind an httpx client, in this process."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any, ClassVar

import httpx
import numpy as np
from fastapi import FastAPI

from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    DenseBm25RetrieverConfig,
    FaissRetrieverConfig,
    HttpRetrieverConfig,
    OracleRetrieverConfig,
    RandomRetrieverConfig,
    RetrieverConfig,
)
from retro_lab.retrieval.base import text_tokens
from retro_lab.retrieval.search.registry import build_retriever
from retro_lab.retrieval.service.client import HttpRetriever, Service
from retro_lab.retrieval.service.served_index import ServedIndex
from retro_lab.testing.small_world import SmallChunks, bag_of_words, small_chunks
from retro_lab.text.tokenizers.base import Encoded

KINDS = [
    Bm25RetrieverConfig(),
    FaissRetrieverConfig(),
    DenseBm25RetrieverConfig(pool=30),
    RandomRetrieverConfig(),
    OracleRetrieverConfig(),
]
QUERIES = np.arange(0, 1000, 29)


class WordTokenizer:
    """Token i is the word "w<i>"."""

    def encode_batch(self, texts: list[str]) -> list[Encoded]:
        rows = [[int(word[1:]) for word in text.split()] for text in texts]
        return [Encoded(np.array(row, np.int32), np.zeros(len(row), np.uint32)) for row in rows]

    def decode(self, ids: list[int]) -> str:
        return "".join(f"w{token} " for token in ids)


class StoredEmbedder:
    """The vector of the stored chunk with that text, before it was rounded; none other is known."""

    query: StoredEmbedder | None = None

    def __init__(self, chunks: SmallChunks, vectors: np.ndarray) -> None:
        texts = chunks.texts(np.arange(chunks.num_chunks), chunks.corpus)
        self.vectors = dict(zip(texts, vectors.astype(np.float32), strict=True))

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts]) * np.float32(1.0001)


def served_index(
    config: RetrieverConfig, chunks: SmallChunks, *, two_sided: bool = False
) -> ServedIndex:
    """An index over a small world."""
    chunks.corpus.ids = [f"doc-{i}" for i in range(len(chunks.first_chunk) - 1)]  # type: ignore[misc]
    embeddings, embedder = None, None
    if config.needs_embeddings:
        embeddings = bag_of_words(chunks, two_sided=two_sided)
        embedder = StoredEmbedder(chunks, embeddings.vectors)
        if two_sided:
            embedder.query = StoredEmbedder(chunks, embeddings.queries)
    ids, retriever = chunks.searched, build_retriever(config)
    tokens = text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)
    retriever.build(ids, tokens, None if embeddings is None else embeddings.of(ids))
    return ServedIndex(
        config=config,
        key=f"key-of-{config.name}",
        retriever=retriever,
        chunks=chunks,
        corpus=chunks.corpus,
        tokenizer=WordTokenizer(),  # type: ignore[arg-type]
        embedder=embedder,
        embeddings=embeddings,
    )


class InProcess(httpx.BaseTransport):
    """Sends requests to an ASGI application."""

    def __init__(self, app: FastAPI) -> None:
        self.inner = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            answer = await self.inner.handle_async_request(request)
            return httpx.Response(answer.status_code, content=await answer.aread())

        self.requests.append(request)
        return asyncio.run(ask())


def client_of(transport: httpx.BaseTransport, **options: Any) -> httpx.Client:
    """A client on a transport."""
    return httpx.Client(transport=transport, base_url="http://service", **options)


class InProcessRetriever(HttpRetriever):
    """`retriever=http`, whose requests all go through the transport that was set last."""

    transport: ClassVar[httpx.BaseTransport]

    @classmethod
    def connect(cls, config: HttpRetrieverConfig) -> Service:
        return Service(config, client=client_of(cls.transport))


@cache
def world() -> SmallChunks:
    return small_chunks()


@cache
def index_of(kind: int) -> ServedIndex:
    return served_index(KINDS[kind], world())


def client_retriever(chunks: SmallChunks, **settings: Any) -> HttpRetriever:
    ids, retriever = chunks.searched, InProcessRetriever(HttpRetrieverConfig(**settings))
    tokens = text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)
    retriever.build(ids, tokens, None)
    return retriever

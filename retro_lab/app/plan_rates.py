"""Rates of this machine for the planner, measured in seconds and scaled to the planned size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import EmbedderConfig, FaissRetrieverConfig, RetrieverConfig
from retro_lab.retrieval.base import Queries
from retro_lab.retrieval.embedders import build_embedder
from retro_lab.retrieval.plan import Database, vectors_scanned
from retro_lab.retrieval.registry import build_retriever

EMBEDDED = 64
INDEXED = (1024, 4096)
SEARCHED = 512

_WARM_UP = 8
_REPEATS = 5  # the fastest counts: the others were disturbed


@dataclass(frozen=True)
class Rates:
    """What one worker does in a second; None where it isn't known.

    Attributes:
        embed: chunks.
        search: queries, in a database of the planned size.
        note: where they come from.
    """

    embed: float | None
    search: float | None
    note: str = "rates as given"


def measure_embed(config: EmbedderConfig, planned: Database) -> float:
    """Chunks/s for texts of random words, as long as the planned chunks.

    Raises:
        UserError: the embedder's model isn't there.
    """
    rng = np.random.default_rng(0)
    length = max(1, planned.text_bytes // max(1, planned.chunks))
    letters = rng.choice(list("abcdefghijklmnop   "), (EMBEDDED, length))
    texts = ["".join(row) for row in letters]
    embedder = build_embedder(config)
    embedder.embed(texts[:_WARM_UP])
    return EMBEDDED / _fastest(lambda: embedder.embed(texts))


def measure_search(config: RetrieverConfig, planned: Database, width: int, k: int) -> float:
    """Queries/s in the planned database, from indexes of 1,024 and 4,096 random chunks.

    The time of a query is taken as a constant and a part that grows with the vectors that FAISS
    compares it with, or for lexical and combined searches with the database. A graph's and a random
    search's are left as they are.

    Raises:
        UserError: the search needs more than vectors and tokens.
    """
    if config.needs_texts or config.name == "http":
        raise UserError(
            f"rates=measure: retriever={config.name} can't be measured on random chunks",
            fix="give rates.search=<queries/s> and rates.embed=<chunks/s>",
        )
    small, large = (_compared(config, size, width) for size in INDEXED)
    quick, slow = (_seconds_a_query(config, planned, width, k, size) for size in INDEXED)
    growth = max(0.0, (slow - quick) / (large - small)) if large > small else 0.0
    constant = max(0.0, slow - growth * large)
    return 1 / (constant + growth * _compared(config, planned.database, width))


def _compared(config: RetrieverConfig, size: int, width: int) -> float:
    """What the time of a query grows with; 1 if it doesn't."""
    if config.name == "random":
        return 1.0
    if isinstance(config, FaissRetrieverConfig):
        return vectors_scanned(config, size, width) or 1.0
    return float(size)


def _seconds_a_query(
    config: RetrieverConfig, planned: Database, width: int, k: int, size: int
) -> float:
    rng = np.random.default_rng(0)
    tokens = rng.zipf(1.2, (size, planned.chunk_size)) % planned.vocab_size
    tokens = tokens.astype(np.int32)
    vectors = rng.standard_normal((size, width), np.float32) if width else None
    if vectors is not None:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(size)
    retriever = build_retriever(config)
    retriever.build(ids, tokens, vectors)
    queries = Queries(tokens, vectors, np.full(size, -1), ids).take(slice(SEARCHED))
    return _fastest(lambda: retriever.candidates(queries, k)) / SEARCHED


def _fastest(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)

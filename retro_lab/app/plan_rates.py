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
from retro_lab.retrieval.exclusion import search_filled
from retro_lab.retrieval.plan import Database, vectors_scanned
from retro_lab.retrieval.registry import build_retriever

EMBEDDED = 256
INDEXED = (4096, 16384)
SEARCHED = 1024

_WARM_UP = 8
_REPEATS = 3  # the fastest counts: the others were disturbed
_DOCUMENT = 32  # chunks; neighbours are never of the query's own

Clock = Callable[[], float]


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


def measure_embed(
    config: EmbedderConfig, planned: Database, clock: Clock = time.perf_counter
) -> float:
    """Chunks/s for pieces of Python's documentation, as long as the planned chunks; as keys and as
    queries where these are two vectors.

    Args:
        clock: seconds; another than the wall's shows what other processes had no part in.

    Raises:
        UserError: the embedder's model isn't there.
    """
    from pydoc_data.topics import topics

    length = max(1, planned.text_bytes // max(1, planned.chunks))
    text = "".join(topics.values())
    starts = np.random.default_rng(0).integers(0, len(text) - length, EMBEDDED)
    texts = [text[start : start + length] for start in starts]
    embedder = build_embedder(config)
    sides = [embedder] if embedder.query is None else [embedder, embedder.query]
    for side in sides:
        side.embed(texts[:_WARM_UP])
    return EMBEDDED / _fastest(lambda: [side.embed(texts) for side in sides], clock)


def measure_search(
    config: RetrieverConfig,
    planned: Database,
    width: int,
    k: int,
    clock: Clock = time.perf_counter,
) -> float:
    """Queries/s in the planned database, from indexes of 4,096 and 16,384 random chunks.

    A query is what it is in the stage: over-fetched, and without its own document. Its time is
    taken as a constant and a part that grows with the vectors that FAISS compares it with, or for
    lexical and combined searches with the database. A graph's and a random search's are left as
    they are. A smaller planned database is measured at its own size.

    Raises:
        UserError: the search needs more than vectors and tokens.
    """
    if config.needs_texts or config.name == "http":
        raise UserError(
            f"rates=measure: retriever={config.name} can't be measured on random chunks",
            fix="give rates.search=<queries/s> and rates.embed=<chunks/s>",
        )
    if planned.database <= INDEXED[-1]:
        return 1 / _seconds_a_query(config, planned, width, k, planned.database, clock)
    small, large = (_compared(config, size, width) for size in INDEXED)
    quick, slow = (_seconds_a_query(config, planned, width, k, size, clock) for size in INDEXED)
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
    config: RetrieverConfig, planned: Database, width: int, k: int, size: int, clock: Clock
) -> float:
    rng = np.random.default_rng(0)
    tokens = rng.zipf(1.2, (size, planned.chunk_size)) % planned.vocab_size
    tokens = tokens.astype(np.int32)
    vectors = rng.standard_normal((size, width), np.float32) if width else None
    if vectors is not None:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids, document = np.arange(size), np.arange(size) // _DOCUMENT
    retriever = build_retriever(config)
    retriever.build(ids, tokens, vectors)
    queries = Queries(tokens, vectors, document, ids, tokens)
    queries = queries.take(rng.permutation(size)[:SEARCHED])
    seconds = _fastest(lambda: search_filled(retriever, queries, min(k, size), document), clock)
    return seconds / len(queries.document)


def _fastest(work: Callable[[], object], clock: Clock) -> float:
    seconds = []
    for _ in range(_REPEATS):
        begun = clock()
        work()
        seconds.append(clock() - begun)
    return min(seconds)

"""Measures embedding and search rates of this machine, scaled to the planned size."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import EmbedderConfig, FaissRetrieverConfig, RetrieverConfig
from retro_lab.retrieval.base import Queries
from retro_lab.retrieval.embed.embedders import build_embedder
from retro_lab.retrieval.filters.exclusion import search_filled
from retro_lab.retrieval.search.faiss_factory import centroids, create_index
from retro_lab.retrieval.search.registry import build_retriever

from .faiss_sizes import Lists, inverted_lists
from .plan import Database

EMBEDDED = 256
INDEXED = (16_384, 65_536)
SEARCHED = 1024
MOST_LISTS = 1024
# Correction factors for real text, measured in docs/scaling.md.
UNEVEN = 1.3  # 1.1 to 1.5: queries visit long inverted lists more often
DEEPER = 1.25  # equal texts and long documents make a dense search fetch more

_WARM_UP = 8
_REPEATS = 3  # the fastest counts, as the least disturbed by other processes
_OPQ = re.compile(r"OPQ\d+(?:_(\d+))?")  # a rotation that takes minutes to learn
_DOCUMENT = 32  # chunks of a document; the query's own document is excluded

Clock = Callable[[], float]


@dataclass(frozen=True)
class Sample:
    """Sizes of the indexes on which a search rate is measured.

    Attributes:
        indexed: chunks of a small and of a large index.
        most_lists: most inverted lists to build; results are scaled to more.
        seconds: seconds a query as a function of retriever and its chunks; None to measure.
    """

    indexed: tuple[int, int] = INDEXED
    most_lists: int = MOST_LISTS
    seconds: Callable[[Any, int], float] | None = None


@dataclass(frozen=True)
class Rates:
    """Rates of one worker; None if unknown.

    Attributes:
        embed: chunks embedded per second.
        search: queries per second, in a database of the planned size.
        note: origin of the rates.
    """

    embed: float | None
    search: float | None
    note: str = "rates as given"


def measure_embed(
    config: EmbedderConfig, planned: Database, clock: Clock = time.perf_counter
) -> float:
    """Chunks embedded per second, for pieces of Python's documentation as long as planned chunks.

    A two-sided embedder embeds each piece as key and as query.

    Args:
        clock: returns seconds; CPU time leaves out other processes.

    Raises:
        UserError: the embedder's model is missing.
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
    sample: Sample = Sample(),
) -> float:
    """Queries per second in the planned database, from indexes of at most 65,536 random chunks.

    Queries over-fetch and exclude their own document, as in the `neighbours` stage. A database
    larger than the sample is extrapolated linearly from the time at two sizes. HNSW and random
    search are taken as constant from 16,384 chunks on; for inverted lists see `_seconds_in_lists`.
    Random chunks have no duplicates and are not similar to their own document; `DEEPER` corrects
    for this.

    Raises:
        UserError: the retriever needs more than vectors and tokens.
    """
    if config.needs_texts or config.name == "http":
        raise UserError(
            f"rates=measure: retriever={config.name} can't be measured on random chunks",
            fix="give rates.search=<queries/s> and rates.embed=<chunks/s>",
        )
    deeper = DEEPER if config.needs_embeddings else 1.0
    chunks = _RandomChunks.of(planned, width, k, clock, sample)
    if isinstance(config, FaissRetrieverConfig):
        lists = inverted_lists(config, planned.database, width)
        if lists is not None:
            return 1 / (deeper * _seconds_in_lists(config, lists, chunks, planned.database))
    sizes = [min(planned.database, size) for size in sample.indexed]
    if not _grows(config):
        sizes = sizes[:1]
    seconds = [chunks.seconds_a_query(chunks.indexed(config, size), size) for size in sizes]
    growth = max(0.0, seconds[-1] - seconds[0]) / max(1, sizes[-1] - sizes[0])
    beyond = growth * (planned.database - sizes[-1])
    return 1 / (deeper * (seconds[-1] + beyond))


def _grows(config: RetrieverConfig) -> bool:
    """Whether a query's time grows with the database."""
    if isinstance(config, FaissRetrieverConfig):
        return "HNSW" not in config.factory
    return config.name != "random"


def _seconds_in_lists(
    config: FaissRetrieverConfig, lists: Lists, chunks: _RandomChunks, database: int
) -> float:
    """Seconds a query in an index with inverted lists.

    Measured with the planned number of lists, or at most 1,024, and the planned share visited. The
    time splits into a constant (centroids and calls, proportional to the lists) and the codes
    scanned. Random vectors fill all lists equally; on real vectors a query visits the longer lists
    more often and scans more codes by the factor `UNEVEN`.
    """
    count = min(lists.count, chunks.sample.most_lists)
    probed = max(1, round(lists.probed * count / lists.count))
    many = max(probed, count // 4)  # with few lists, growth would be lost in noise
    factory = lists.factory.replace(f"IVF{lists.count}", f"IVF{count}")
    factory = _OPQ.sub(lambda found: f"RR{found[1] or chunks.width}", factory)
    config = dataclasses.replace(config, factory=factory, nprobe=many)
    large = min(database, chunks.sample.indexed[-1])
    small = min(large, max(large // 4, centroids(create_index(factory, chunks.width))))
    retriever = chunks.indexed(config, small)
    quick = chunks.seconds_a_query(retriever, small)
    retriever.extend(chunks.ids[small:large], chunks.vectors[small:large])
    slow = chunks.seconds_a_query(retriever, large)
    growth = max(0.0, slow - quick) / max(1.0, (large - small) * many / count)
    _visit(retriever, probed)
    constant = chunks.seconds_a_query(retriever, large) - growth * large * probed / count
    scanned = UNEVEN * database * lists.probed / lists.count
    return max(0.0, constant) * lists.count / count + growth * scanned


def _visit(retriever: Any, probed: int) -> None:
    import faiss

    faiss.extract_index_ivf(retriever.index).nprobe = probed


@dataclass(frozen=True)
class _RandomChunks:
    """Random chunks for an index.

    Attributes:
        tokens: int32 [S, M], distributed by Zipf's law.
        vectors: float32 [S, E] of length 1; E = 0 for a search without vectors.
        k: neighbours a query.
        clock: returns seconds.
        sample: sizes of indexes.
    """

    tokens: np.ndarray
    vectors: np.ndarray
    k: int
    clock: Clock
    sample: Sample

    @classmethod
    def of(
        cls, planned: Database, width: int, k: int, clock: Clock, sample: Sample
    ) -> _RandomChunks:
        """As many random chunks as the largest index needs."""
        rng, size = np.random.default_rng(0), min(planned.database, sample.indexed[-1])
        tokens = rng.zipf(1.2, (size, planned.chunk_size)) % planned.vocab_size
        vectors = rng.standard_normal((size, width), np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return cls(tokens.astype(np.int32), vectors, k, clock, sample)

    @property
    def width(self) -> int:
        """Width E of the vectors."""
        return self.vectors.shape[1]

    @property
    def ids(self) -> np.ndarray:
        """Chunk ids, int64 [S]."""
        return np.arange(len(self.tokens))

    def indexed(self, config: RetrieverConfig, size: int) -> Any:
        """A retriever over the first `size` chunks."""
        retriever = build_retriever(config)
        vectors = self.vectors[:size] if self.width else None
        retriever.build(self.ids[:size], self.tokens[:size], vectors)
        return retriever

    def seconds_a_query(self, retriever: Any, size: int) -> float:
        """Seconds a query, with queries from the first `size` chunks."""
        if self.sample.seconds is not None:
            return self.sample.seconds(retriever, size)
        document = self.ids // _DOCUMENT
        asked = np.random.default_rng(1).permutation(size)[:SEARCHED]
        vectors = self.vectors if self.width else None
        queries = Queries(self.tokens, vectors, document, self.ids, self.tokens).take(asked)
        k = min(self.k, size)
        seconds = _fastest(lambda: search_filled(retriever, queries, k, document), self.clock)
        return seconds / len(asked)


def _fastest(work: Callable[[], object], clock: Clock) -> float:
    seconds = []
    for _ in range(_REPEATS):
        begun = clock()
        work()
        seconds.append(clock() - begun)
    return min(seconds)

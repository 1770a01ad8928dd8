"""Dense search with FAISS, from a factory string, with its surprises removed.

FAISS leaves three things open that this file settles. Equal scores come back in no fixed order:
here they are ordered by chunk id, and a row is fetched deeper until its last tie is complete. Exact
scores differ in the last bit with the number of queries searched at once: here they are computed
again pair by pair. And a database too small for the factory ends in a C++ assertion, or in a
warning a sub-quantiser: here the factory's sizes follow from the corpus, and what doesn't fit is a
UserError.

Vectors are compared by inner product. On unit vectors, which embedders make by default, that
ranks as the paper's L2 distance does (RETRO, section 2.2).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import FaissRetrieverConfig
from retro_lab.retrieval.base import NO_CHUNK, Neighbours, Queries
from retro_lab.retrieval.ranking import sort_rows

logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it reports each CPU it tries

EXACT_FACTORY = "Flat"
POINTS_PER_CENTROID = 39  # below it, FAISS warns that k-means is undertrained
MAX_CODE_BITS = 8
MIN_CODE_BITS = 4
DIMS_PER_CODE = 8

_QUERY_BLOCK = 1024
_ADD_BLOCK = 65536
_SLACK = 8  # candidates fetched beyond k, so that most rows see their last tie end at once
_TIE = 1e-5  # scores of unit vectors closer than this may swap ranks in float32


class FaissRetriever:
    """A FAISS index over the embeddings of the database's chunks."""

    needs_embeddings = FaissRetrieverConfig.needs_embeddings

    def __init__(self, config: FaissRetrieverConfig) -> None:
        self.config = config
        self.chunk_ids = np.empty(0, dtype=np.int64)
        self.index: Any = None

    @property
    def approximates(self) -> FaissRetrieverConfig | None:
        """Exact search with `Flat`, unless this is it."""
        return None if self._exact else FaissRetrieverConfig(factory=EXACT_FACTORY)

    @classmethod
    def index_fields(cls, config: FaissRetrieverConfig) -> dict[str, Any]:
        """The factory; nprobe and ef_search act at search time."""
        return {"factory": config.factory}

    def build(
        self, chunk_ids: np.ndarray, tokens: np.ndarray, embeddings: np.ndarray | None
    ) -> dict[str, Any]:
        """Train and fill the index; tokens aren't read.

        Raises:
            UserError: FAISS doesn't know the factory, or the database is too small for it.
        """
        assert embeddings is not None
        size, width = embeddings.shape
        factory = fill_factory(self.config.factory, size, width)
        self.chunk_ids = chunk_ids
        with _as_user_error(self.config.factory, factory, size, width), _threads(factory):
            self.index = _create(factory, width)
            _require_points(self.index, self.config.factory, factory, size)
            if not self.index.is_trained:
                self.index.train(embeddings.astype(np.float32))
            for start in range(0, size, _ADD_BLOCK):
                self.index.add(embeddings[start : start + _ADD_BLOCK].astype(np.float32))
        self._set_search_options()
        return {"factory": factory}

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k best chunks by inner product; searched in blocks, deeper where ties need it."""
        assert queries.embeddings is not None
        found = Neighbours.empty(len(queries.embeddings), k)
        for start in range(0, len(found.ids), _QUERY_BLOCK):
            block = slice(start, start + _QUERY_BLOCK)
            vectors = np.ascontiguousarray(queries.embeddings[block], dtype=np.float32)
            found.ids[block], found.scores[block] = self._search_block(vectors, k)
        return found

    def save(self, folder: Path) -> None:
        import faiss

        np.save(folder / "chunk_ids.npy", self.chunk_ids, allow_pickle=False)
        faiss.write_index(self.index, str(folder / "index.faiss"))

    @classmethod
    def load(cls, folder: Path, config: FaissRetrieverConfig) -> Self:
        import faiss

        retriever = cls(config)
        retriever.chunk_ids = np.load(folder / "chunk_ids.npy", mmap_mode="r", allow_pickle=False)
        retriever.index = faiss.read_index(str(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        retriever._set_search_options()
        return retriever

    @property
    def _exact(self) -> bool:
        return self.config.factory == EXACT_FACTORY

    def _search_block(self, vectors: np.ndarray, k: int) -> Neighbours:
        size = len(self.chunk_ids)
        found = Neighbours.empty(len(vectors), k)
        pending = np.arange(len(vectors))
        depth = k + _SLACK
        while len(pending):
            hits, floor = self._search_depth(vectors[pending], min(depth, size))
            width = min(k, size)
            found.ids[pending, :width] = hits.ids[:, :width]
            found.scores[pending, :width] = hits.scores[:, :width]
            last = hits.scores[:, width - 1]
            open_tie = np.isfinite(floor) & (last <= floor + _TIE) & (depth < size)
            pending, depth = pending[open_tie], 2 * depth
        return found

    def _search_depth(self, vectors: np.ndarray, depth: int) -> tuple[Neighbours, np.ndarray]:
        """Sorted hits, and the lowest score FAISS returned a row, -inf if it ran out of chunks."""
        import faiss

        scores, positions = self.index.search(vectors, depth)
        floor = np.where(positions[:, -1] < 0, -np.inf, scores[:, -1])
        if self._exact:
            self.index.compute_distance_subset(
                len(vectors),
                faiss.swig_ptr(vectors),
                depth,
                faiss.swig_ptr(scores),
                faiss.swig_ptr(positions),
            )
        ids = np.where(positions < 0, NO_CHUNK, self.chunk_ids[positions])
        return sort_rows(Neighbours(ids, scores)), floor

    def _set_search_options(self) -> None:
        import faiss

        inverted = faiss.try_extract_index_ivf(self.index)
        if inverted is not None:
            share = max(1, inverted.nlist // 16)  # 20k chunks: within .003 of all lists' recall
            inverted.nprobe = min(inverted.nlist, self.config.nprobe or share)
        index = faiss.downcast_index(self.index)
        if isinstance(index, faiss.IndexHNSW):
            index.hnsw.efSearch = self.config.ef_search


def fill_factory(factory: str, size: int, width: int) -> str:
    """The factory string with `{nlist}` and `{pq}` chosen for `size` vectors of `width` numbers.

    nlist: the power of two nearest to 4 * sqrt(size), lowered until every list has 39 training
    points, the least FAISS accepts silently. pq: as many sub-quantisers as divide the width into
    parts of 8 numbers or more; each code has 8 bits, or fewer (down to 4) while 39 points a
    centroid are missing.

    Raises:
        UserError: a placeholder of another name.
    """
    nlist = 2 ** round(np.log2(4 * np.sqrt(max(size, 1))))
    while nlist > 1 and size < POINTS_PER_CENTROID * nlist:
        nlist //= 2
    most = max(1, width // DIMS_PER_CODE)
    parts = max(count for count in range(1, most + 1) if width % count == 0)
    bits = MAX_CODE_BITS
    while bits > MIN_CODE_BITS and size < POINTS_PER_CENTROID * 2**bits:
        bits -= 1
    filled = factory.replace("{nlist}", str(nlist)).replace("{pq}", f"{parts}x{bits}")
    if left := re.search(r"[{}].*", filled):
        raise UserError(
            f"retriever.factory={factory}: unknown placeholder at {left.group()!r}",
            fix="use {nlist} and {pq}, or write the numbers out",
        )
    return filled


def _create(factory: str, width: int) -> Any:
    """An empty index that trains quietly and without the polysemous codes nobody asks for."""
    import faiss

    index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    for part in _parts(index):
        if hasattr(part, "cp"):
            part.cp.min_points_per_centroid = 1
        if hasattr(part, "pq"):
            part.pq.cp.min_points_per_centroid = 1
            part.do_polysemous_training = False  # takes most of the time, never searched
    return index


def _require_points(index: Any, written: str, factory: str, size: int) -> None:
    """Raises UserError if k-means would have more centroids than points."""
    parts = _parts(index)
    needed = max(
        [1]
        + [part.nlist for part in parts if hasattr(part, "nlist")]
        + [part.pq.ksub for part in parts if hasattr(part, "pq")]
    )
    if size < needed:
        raise UserError(
            f"retriever.factory={written} (here {factory}) needs at least {needed} chunks in the "
            f"training split to train on; there are {size}",
            fix="use retriever=faiss_flat, or a larger corpus",
        )


def _parts(index: Any) -> list[Any]:
    """The index and the inverted file within it, as the classes that they are."""
    import faiss

    inverted = faiss.try_extract_index_ivf(index)
    return [faiss.downcast_index(part) for part in (index, inverted) if part is not None]


@contextmanager
def _threads(factory: str) -> Iterator[None]:
    """HNSW links depend on the order of insertion, so a graph is built by one thread."""
    import faiss

    before = faiss.omp_get_max_threads()
    if "HNSW" in factory:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@contextmanager
def _as_user_error(written: str, factory: str, size: int, width: int) -> Iterator[None]:
    """FAISS's own exceptions, while it makes an index, are about the factory or the corpus."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).rsplit("failed: ", 1)[-1].rsplit(".cpp:", 1)[-1].strip()
        raise UserError(
            f"retriever.factory={written} (here {factory}): FAISS can't index {size} chunks of "
            f"width {width}: {reason}",
            fix="use retriever=faiss_flat, or correct the factory string",
        ) from error

"""Dense search with a FAISS index, deterministic and with readable errors.

FAISS returns equal scores in varying order: here they are ordered by chunk id, and a row is fetched
deeper until its last tie is complete. FAISS's exact scores vary in the last bit with the number of
queries in a batch: here they are recomputed pair by pair. A database too small for the factory ends
in a C++ assertion or a warning: `faiss_factory.py` derives the sizes from the database and refuses
the rest with a UserError.

Vectors are compared by inner product. On unit vectors, the default of embedders, this ranks as the
paper's L2 distance does (RETRO, section 2.2).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.config.schema import FaissRetrieverConfig
from retro_lab.store.workspace import Workspace

from ..base import NO_CHUNK, Neighbours, Queries, RowSource
from .faiss_blocks import LIMITS, BuildLimits, trained, write_filled, writes_blocks
from .faiss_factory import (
    as_user_error,
    create_index,
    fill_factory,
    lists_visited,
    one_thread,
    require_points,
)
from .faiss_search import add, inner_products, search
from .ranking import reranked, sort_rows

logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # reports each CPU type that it tries

EXACT_FACTORY = "Flat"
INDEX_FILE, VECTORS_FILE = "index.faiss", "vectors.npy"

_QUERY_BLOCK = 1024
_RERANK_BLOCK = 64  # queries rescored at once: 10 MB for 100 candidates of 384 numbers
_SLACK = 8  # candidates fetched beyond k, so that most rows include their last tie at once
_TIE = 1e-5  # relative tolerance for scores that may swap ranks in float32


Search = Callable[[Any, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""Maps an index, vectors [Q, E] and k to scores and positions of the k best, [Q, k] each."""


class FaissRetriever:
    """A FAISS index over the embeddings of the database's chunks.

    Args:
        config: settings of the index and its search.
        limits: limits on memory while building.
        search: the search function.
    """

    needs_embeddings = FaissRetrieverConfig.needs_embeddings

    def __init__(
        self,
        config: FaissRetrieverConfig,
        *,
        limits: BuildLimits = LIMITS,
        search: Search = search,
    ) -> None:
        self.config = config
        self._limits, self._ask = limits, search
        self.chunk_ids = np.empty(0, dtype=np.int64)
        self.index: Any = None
        self.file: Path | None = None  # the index on disk, until saved
        self.vectors: RowSource | None = None  # [S, E], for reranking

    @property
    def exact(self) -> bool:
        """Whether the factory is `Flat`."""
        return self.config.factory == EXACT_FACTORY

    @classmethod
    def index_fields(cls, config: FaissRetrieverConfig) -> dict[str, Any]:
        """Factory, explicit sizes, and whether vectors are stored; the rest acts at search time."""
        fields: dict[str, Any] = {"factory": config.factory}
        fields |= {k: v for k in ("nlist", "pq") if (v := getattr(config, k)) is not None}
        return fields if config.rerank is None else {**fields, "vectors": True}

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> dict[str, Any]:
        """Trains and fills the index; ignores tokens.

        Raises:
            UserError: FAISS rejects the factory, or the database is too small for it.
        """
        assert embeddings is not None
        size, width = len(embeddings), embeddings[:1].shape[1]
        config = self.config
        factory = fill_factory(config.factory, size, width, config.nlist, config.pq)
        self.chunk_ids = chunk_ids
        self.vectors = None if config.rerank is None else embeddings
        # HNSW links depend on the order of insertion, so a graph needs one thread.
        threads = one_thread() if "HNSW" in factory else nullcontext()
        with as_user_error(config.factory, factory, size, width), threads:
            index = create_index(factory, width)
            require_points(index, config.factory, factory, size)
            if not index.is_trained:
                index = trained(index, embeddings, workspace, self._limits)
            self.index = index
            if workspace is not None and writes_blocks(self.index):
                self._write(embeddings, workspace)
            else:
                self._add(embeddings)
        self._set_search_options()
        return {"factory": factory}

    def _write(self, embeddings: RowSource, workspace: Workspace) -> None:
        """Fills the index on disk and opens the file."""
        self.file = workspace.scratch / INDEX_FILE
        write_filled(self.index, embeddings, self.file, workspace, self._limits)
        self.index = _open(self.file)

    def extend(self, chunk_ids: np.ndarray, embeddings: np.ndarray) -> None:
        """Appends chunks without training again.

        An exact index then equals, to the byte, one built at once. An approximate one keeps the
        lists and codes of its first chunks, so its recall may fall if the added ones differ; recall
        is measured for every neighbour table.

        Args:
            chunk_ids: int64 [n], ascending, above all existing ones.
            embeddings: [n, E].
        """
        self.chunk_ids = np.concatenate([self.chunk_ids, chunk_ids])
        if self.vectors is not None:
            self.vectors = np.concatenate([np.asarray(self.vectors), embeddings])
        with one_thread() if "HNSW" in self.config.factory else nullcontext():
            self._add(embeddings)

    def _add(self, embeddings: RowSource) -> None:
        size = self._limits.block
        for start in range(0, len(embeddings), size):
            add(self.index, embeddings[start : start + size].astype(np.float32, copy=False))

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k best chunks by inner product; `rerank` orders the first by exact score."""
        pool = self.config.rerank
        if pool is None:
            return self._search(queries, k)
        first = self._search(queries, max(k, pool))
        return reranked(first, pool, k, lambda ids: self._exact_scores(queries, ids))

    def save(self, folder: Path) -> None:
        import faiss

        np.save(folder / "chunk_ids.npy", self.chunk_ids, allow_pickle=False)
        if self.file is None:
            faiss.write_index(self.index, str(folder / INDEX_FILE))
        else:
            self.file.rename(folder / INDEX_FILE)
            self.file = None
        if self.vectors is not None:
            _save_halves(folder / VECTORS_FILE, self.vectors, self._limits.block)

    @classmethod
    def load(cls, folder: Path, config: FaissRetrieverConfig) -> Self:
        retriever = cls(config)
        retriever.chunk_ids = np.load(folder / "chunk_ids.npy", mmap_mode="r", allow_pickle=False)
        retriever.index = _open(folder / INDEX_FILE)
        if config.rerank is not None:
            retriever.vectors = np.load(folder / VECTORS_FILE, mmap_mode="r", allow_pickle=False)
        retriever._set_search_options()
        return retriever

    @classmethod
    def open_to_extend(cls, folder: Path, config: FaissRetrieverConfig) -> Self:
        """As `load`, with the index in memory so that it can grow."""
        import faiss

        retriever = cls.load(folder, config)
        retriever.index = faiss.read_index(str(folder / INDEX_FILE))
        return retriever

    def _search(self, queries: Queries, k: int) -> Neighbours:
        assert queries.embeddings is not None
        found = Neighbours.empty(len(queries.embeddings), k)
        for start in range(0, len(found.ids), _QUERY_BLOCK):
            block = slice(start, start + _QUERY_BLOCK)
            vectors = np.ascontiguousarray(queries.embeddings[block], dtype=np.float32)
            found.ids[block], found.scores[block] = self._search_block(vectors, k)
        return found

    def _exact_scores(self, queries: Queries, ids: np.ndarray) -> np.ndarray:
        """float32 [Q, P], inner products with chunks `ids`; independent of the batch."""
        assert queries.embeddings is not None
        assert self.vectors is not None
        scores = np.zeros(ids.shape, dtype=np.float32)
        for start in range(0, len(ids), _RERANK_BLOCK):
            block = slice(start, start + _RERANK_BLOCK)
            places = np.searchsorted(self.chunk_ids, np.maximum(ids[block], self.chunk_ids[0]))
            known = self.vectors[places].astype(np.float16).astype(np.float32)
            asked = queries.embeddings[block].astype(np.float32)
            scores[block] = (known * asked[:, None]).sum(axis=-1)
        return scores

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
            more = np.isfinite(floor)
            near = floor + _TIE * np.maximum(1, np.abs(np.where(more, floor, 0)))
            open_tie = more & (last <= near) & (depth < size)
            pending, depth = pending[open_tie], 2 * depth
        return found

    def _search_depth(self, vectors: np.ndarray, depth: int) -> tuple[Neighbours, np.ndarray]:
        """Sorted hits, and each row's lowest score from FAISS, -inf if the chunks ran out."""
        scores, positions = self._ask(self.index, vectors, depth)
        floor = np.where(positions[:, -1] < 0, -np.inf, scores[:, -1])
        if self.exact:
            scores = inner_products(self.index, vectors, positions)
        ids = np.where(positions < 0, NO_CHUNK, self.chunk_ids[positions])
        return sort_rows(Neighbours(ids, scores)), floor

    def _set_search_options(self) -> None:
        import faiss

        inverted = faiss.try_extract_index_ivf(self.index)
        if inverted is not None:
            inverted.nprobe = lists_visited(inverted.nlist, self.config.nprobe)
        index = faiss.downcast_index(self.index)
        if isinstance(index, faiss.IndexHNSW):
            index.hnsw.efSearch = self.config.ef_search


def _open(path: Path) -> Any:
    """Opens an index file memory-mapped."""
    import faiss

    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def _save_halves(path: Path, vectors: RowSource, block: int) -> None:
    """Writes vectors as a float16 npy file, `block` rows at a time."""
    shape = (len(vectors), vectors[:1].shape[1])
    header = {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(vectors), block):
            out.write(vectors[start : start + block].astype(np.float16).tobytes())

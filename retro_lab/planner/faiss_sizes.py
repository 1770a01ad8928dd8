"""Sizes of FAISS indexes, from an empty index that the factory string makes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.config.schema import FaissRetrieverConfig
from retro_lab.retrieval.search.faiss_factory import (
    as_user_error,
    create_index,
    fill_factory,
    lists_visited,
)

_LISTS = re.compile(r"IVF(\d+)")


def index_bytes(config: FaissRetrieverConfig, size: int, width: int) -> int:
    """Bytes of a FAISS index of `size` vectors.

    Raises:
        UserError: FAISS rejects the factory, or the size of its index type is unknown.
    """
    empty, lists = empty_index(config, size, width)
    return _FaissSize(config.factory, lists).of(empty, size)


@dataclass(frozen=True)
class Lists:
    """Inverted lists of an index.

    Attributes:
        factory: factory string with all sizes filled in.
        count: number of lists.
        probed: lists that a query visits.
    """

    factory: str
    count: int
    probed: int


def inverted_lists(config: FaissRetrieverConfig, size: int, width: int) -> Lists | None:
    """The inverted lists of an index of `size` vectors; None if it has none."""
    factory = fill_factory(config.factory, size, width, config.nlist, config.pq)
    found = _LISTS.search(factory)
    if found is None:
        return None
    count = int(found.group(1))
    return Lists(factory, count, lists_visited(count, config.nprobe))


def empty_index(config: FaissRetrieverConfig, size: int, width: int) -> tuple[Any, int]:
    """An empty index with a single inverted list, and the factory's real number of lists.

    A single list saves the memory of millions of empty ones.
    """
    factory = fill_factory(config.factory, size, width, config.nlist, config.pq)
    lists = [int(count) for count in _LISTS.findall(factory)]
    with as_user_error(config.factory, factory, size, width):
        return create_index(_LISTS.sub("IVF1", factory), width), lists[0] if lists else 0


@dataclass(frozen=True)
class _FaissSize:
    """Computes the bytes of a FAISS index from an empty one.

    Attributes:
        factory: factory string, for messages.
        lists: real number of inverted lists; the empty index has one.
    """

    factory: str
    lists: int

    def of(self, empty: Any, size: int) -> int:
        """Bytes of an index like `empty` with `size` vectors."""
        import faiss

        index = faiss.downcast_index(empty)
        if isinstance(index, faiss.IndexPreTransform):
            chain: Any = index.chain
            steps = [faiss.downcast_VectorTransform(chain.at(i)) for i in range(chain.size())]
            return sum(map(_transform_bytes, steps)) + self.of(index.index, size)
        if isinstance(index, faiss.IndexRefine):
            return self.of(index.base_index, size) + self.of(index.refine_index, size)
        if isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)):
            return 8 * size + self.of(index.index, size)
        if isinstance(index, faiss.IndexHNSW):
            return self.of(index.storage, size) + round(size * _link_bytes(index.hnsw))
        if isinstance(index, faiss.IndexIVF):
            centroids = self.of(index.quantizer, self.lists)
            stored = size * (index.code_size + 8) + 8 * self.lists
            return stored + centroids + _codebook_bytes(index)
        if isinstance(index, faiss.IndexFlatCodes):
            return size * index.code_size + _codebook_bytes(index)
        raise UserError(
            f"retriever.factory={self.factory}: the planner doesn't know the size of "
            f"{type(index).__name__}",
            fix="plan with a factory of Flat, IVF, PQ, SQ, HNSW and OPQ, or build a sample of it",
        )


def _link_bytes(hnsw: Any) -> float:
    """Mean bytes a vector for its HNSW links, level and offset.

    With each level, the share of vectors that reach it is divided by the degree.
    """
    degree = hnsw.nb_neighbors(1)
    links = hnsw.nb_neighbors(0) + degree / (degree - 1)
    return 4 * links + 4 + 8


def _codebook_bytes(index: Any) -> int:
    """Bytes of a product quantiser's centroids, or of a scalar quantiser's ranges."""
    if hasattr(index, "pq"):
        return 4 * index.pq.ksub * index.pq.d
    return 8 * index.d if hasattr(index, "sq") else 0


def _transform_bytes(transform: Any) -> int:
    import faiss

    if isinstance(transform, faiss.PCAMatrix):  # stores the whole basis and the part in use
        return 4 * (transform.d_in + transform.d_out + 2) * transform.d_in
    return 4 * transform.d_in * transform.d_out

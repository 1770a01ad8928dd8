"""FAISS search with results that are independent of the other queries in a batch.

FAISS rotates vectors and compares them with centroids in one matrix product a batch, whose last
bits vary with the batch's size, and so do codes and scores. Here both sums are computed pair by
pair, which costs little beside the scan of the lists.

Shapes: Q queries, E width of a vector, L labels a query, K results a query.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_BY_QUERIES = 3  # FAISS's parallel mode; by default one thread scans preassigned lists
_SLACK = 4  # lists beyond nprobe, so that a near-tie at the boundary is decided pair by pair


def search(index: Any, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [Q, K] and positions int64 [Q, K], best first, -1 for none."""
    import faiss

    vectors, index = transformed(index, vectors), inner_index(index)
    if isinstance(index, faiss.IndexIVF):
        centroids = faiss.downcast_index(index.quantizer)
        if isinstance(centroids, faiss.IndexFlat):
            return _search_lists(index, centroids, vectors, k)
    return index.search(vectors, k)


def add(index: Any, vectors: np.ndarray) -> None:
    """Appends vectors, float32 [n, E], to a trained index."""
    behind = inner_index(index)
    behind.add(transformed(index, vectors))
    index.ntotal = behind.ntotal


def inner_products(flat: Any, vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float32 [Q, L]: inner products of queries [Q, E] with labelled vectors, pair by pair."""
    import faiss

    scores = np.empty(labels.shape, dtype=np.float32)
    flat.compute_distance_subset(
        len(vectors),
        faiss.swig_ptr(vectors),
        labels.shape[1],
        faiss.swig_ptr(scores),
        faiss.swig_ptr(labels),
    )
    return scores


def inner_index(index: Any) -> Any:
    """The downcast index after a chain of transforms, or the index itself."""
    import faiss

    if isinstance(index, faiss.IndexPreTransform):
        return faiss.downcast_index(index.index)
    return index


def transformed(index: Any, vectors: np.ndarray) -> np.ndarray:
    """Vectors after the index's chain of transforms, float32 [Q, E']."""
    import faiss

    if not isinstance(index, faiss.IndexPreTransform):
        return vectors
    chain: Any = index.chain
    for number in range(chain.size()):
        step = faiss.downcast_VectorTransform(chain.at(number))
        if not isinstance(step, faiss.LinearTransform):
            vectors = step.apply(vectors)
            continue
        rows = faiss.IndexFlatIP(step.d_in)
        rows.add(faiss.vector_to_array(step.A).reshape(step.d_out, step.d_in))
        labels = np.tile(np.arange(step.d_out), (len(vectors), 1))
        vectors = inner_products(rows, np.ascontiguousarray(vectors), labels)
        if step.have_bias:
            vectors += faiss.vector_to_array(step.b)
    return vectors


def _search_lists(
    index: Any, centroids: Any, vectors: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    nearby = min(index.nlist, index.nprobe + _SLACK)
    _, lists = centroids.search(vectors, nearby)
    scores = inner_products(centroids, vectors, lists)
    order = np.lexsort((lists, -scores), axis=-1)[:, : index.nprobe]
    lists, scores = (np.take_along_axis(part, order, axis=1) for part in (lists, scores))
    before, index.parallel_mode = index.parallel_mode, _BY_QUERIES
    try:
        return index.search_preassigned(vectors, k, lists, scores)
    finally:
        index.parallel_mode = before

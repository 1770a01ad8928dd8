"""Creates an empty FAISS index from a factory string, sized for the database.

The rules, each overridden by the setting of its name (`retriever.nlist`, `.pq`, `.nprobe`):

    {nlist}  inverted lists: the power of two nearest to 4 * sqrt(chunks), lowered until every list
             has 39 training points, the fewest without a warning of FAISS
    {pq}     sub-quantisers x bits: the most sub-quantisers that divide the width into parts of 8
             numbers or more; 8 bits a code, or fewer (down to 4) until every centroid has 39
             training points
    {opq}    the same number of sub-quantisers, for the rotation before them
    nprobe   a sixteenth of the lists, at least one

Training takes a sample of the database (`faiss_blocks.py`), of which FAISS uses at most 256 vectors
a centroid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.refusals import is_refused
from retro_lab.config.schema import FaissRetrieverConfig

POINTS_PER_CENTROID = 39  # with fewer, FAISS warns that k-means is undertrained
MAX_CODE_BITS = 8
MIN_CODE_BITS = 4
DIMS_PER_CODE = 8


def fill_factory(
    factory: str, size: int, width: int, nlist: int | None = None, pq: int | None = None
) -> str:
    """The factory string with its placeholders filled for `size` vectors of `width` numbers.

    Args:
        nlist: inverted lists; None applies the rule.
        pq: sub-quantisers; None applies the rule.

    Raises:
        UserError: unknown placeholder.
    """
    parts = pq or _sub_quantisers(width)
    filled = (
        factory.replace("{nlist}", str(nlist or _lists(size)))
        .replace("{pq}", f"{parts}x{_code_bits(size)}")
        .replace("{opq}", str(parts))
    )
    if left := re.search(r"[{}].*", filled):
        raise UserError(
            f"retriever.factory={factory}: unknown placeholder at {left.group()!r}",
            fix="use {nlist}, {pq} and {opq}, or write the numbers out",
        )
    return filled


def lists_visited(nlist: int, nprobe: int | None) -> int:
    """Number of inverted lists that a query visits.

    Args:
        nprobe: the setting; None applies the rule.
    """
    share = max(1, nlist // 16)  # 20k chunks: within .003 of all lists' recall
    return min(nlist, nprobe or share)


def _lists(size: int) -> int:
    nlist = 2 ** round(np.log2(4 * np.sqrt(max(size, 1))))
    while nlist > 1 and size < POINTS_PER_CENTROID * nlist:
        nlist //= 2
    return nlist


def _sub_quantisers(width: int) -> int:
    most = max(1, width // DIMS_PER_CODE)
    return max(count for count in range(1, most + 1) if width % count == 0)


def _code_bits(size: int) -> int:
    bits = MAX_CODE_BITS
    while bits > MIN_CODE_BITS and size < POINTS_PER_CENTROID * 2**bits:
        bits -= 1
    return bits


def create_index(factory: str, width: int) -> Any:
    """An empty index that trains without warnings and without unused polysemous codes."""
    import faiss

    index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    for part in _parts(index):
        if hasattr(part, "cp"):
            part.cp.min_points_per_centroid = 1
        if hasattr(part, "pq"):
            part.pq.cp.min_points_per_centroid = 1
            if hasattr(part, "do_polysemous_training"):
                part.do_polysemous_training = False  # slow to train and never searched
    return index


def check_factory(
    config: FaissRetrieverConfig, size: int, width: int, key: str = "retriever"
) -> None:
    """Checks a factory as `FaissRetriever.build` would, without vectors.

    Args:
        size: chunks of the database, for placeholders and training points.
        width: width of an embedding.
        key: key of the settings, for errors.

    Raises:
        UserError: FAISS rejects the factory, can't divide the width, or has too few chunks to train
            on.
    """
    factory = fill_factory(config.factory, size, width, config.nlist, config.pq)
    with as_user_error(config.factory, factory, size, width, key):
        index = create_index(factory, width)
        _require_reduction(index)
    require_points(index, config.factory, factory, size, key)


def _require_reduction(index: Any) -> None:
    """Refuses a PCA to more dimensions, which FAISS would only report in training."""
    import faiss

    whole = faiss.downcast_index(index)
    for step in _chain(whole) if isinstance(whole, faiss.IndexPreTransform) else []:
        if isinstance(step, faiss.PCAMatrix) and step.d_out > step.d_in:
            raise RuntimeError(f"PCA can't make {step.d_out} numbers out of {step.d_in}")


def train_index(index: Any, vectors: np.ndarray) -> None:
    """Trains on float32 vectors [S, E]."""
    import faiss

    whole = faiss.downcast_index(index)
    if not isinstance(whole, faiss.IndexPreTransform):
        index.train(vectors)
        return
    rotation = _rotation(index)
    if rotation is not None:
        _train_rotation(rotation, index, vectors)
    with one_thread():  # matrix products depend on the number of threads
        for step in _chain(whole):
            if not step.is_trained:
                step.train(vectors)
            vectors = step.apply(vectors)
    faiss.downcast_index(whole.index).train(vectors)
    whole.is_trained = True


def _train_rotation(rotation: Any, index: Any, vectors: np.ndarray) -> None:
    """Trains the rotation for the index's own codes; by default it uses 8 bits at any size."""
    import faiss

    codes = next((part.pq for part in _parts(index) if hasattr(part, "pq")), None)
    trial = faiss.ProductQuantizer(rotation.d_out, rotation.M, codes.nbits if codes else 8)
    trial.cp.min_points_per_centroid = 1
    rotation.pq = trial
    with one_thread():
        rotation.train(vectors)
    rotation.pq = None  # `trial` is freed when this function returns


def require_points(
    index: Any, written: str, factory: str, size: int, key: str = "retriever"
) -> None:
    """Raises UserError if k-means would have more centroids than points."""
    needed = centroids(index)
    if size < needed:
        raise UserError(
            f"{key}.factory={written} (here {factory}) needs at least {needed} chunks in the "
            f"database to train on; there are {size}",
            fix=f"use retriever=faiss_flat or a larger corpus, or a lower {key}.nlist if it is set",
        )


def centroids(index: Any) -> int:
    """The most centroids of one k-means in the index; 1 without k-means."""
    parts = _parts(index)
    return max(
        [1]
        + [part.nlist for part in parts if hasattr(part, "nlist")]
        + [part.pq.ksub for part in parts if hasattr(part, "pq")]
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits FAISS to one thread inside the block."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@contextmanager
def as_user_error(
    written: str, factory: str, size: int, width: int, key: str = "retriever"
) -> Iterator[None]:
    """Turns FAISS's exceptions while building an index into errors about the factory or corpus."""
    try:
        yield
    except RuntimeError as error:
        if is_refused(error):
            raise
        reason = re.split(r"failed: |\.cpp:\d+: ", str(error))[-1].strip()
        raise UserError(
            f"{key}.factory={written} (here {factory}): FAISS can't index {size} chunks of "
            f"width {width}: {reason}",
            fix=f"use retriever=faiss_flat, or correct {key}.factory, {key}.nlist or {key}.pq",
        ) from error


def _parts(index: Any) -> list[Any]:
    """The downcast index, the index after its transforms, and the inverted file."""
    import faiss

    parts = [faiss.downcast_index(index), faiss.try_extract_index_ivf(index)]
    if isinstance(parts[0], faiss.IndexPreTransform):
        parts.append(parts[0].index)
    return [faiss.downcast_index(part) for part in parts if part is not None]


def _rotation(index: Any) -> Any:
    """The OPQ rotation before an index, or None."""
    import faiss

    whole = faiss.downcast_index(index)
    if not isinstance(whole, faiss.IndexPreTransform):
        return None
    return next((step for step in _chain(whole) if isinstance(step, faiss.OPQMatrix)), None)


def _chain(whole: Any) -> list[Any]:
    """The downcast transforms before an index."""
    import faiss

    return [faiss.downcast_VectorTransform(whole.chain.at(i)) for i in range(whole.chain.size())]

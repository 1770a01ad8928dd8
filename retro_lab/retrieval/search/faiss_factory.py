"""From a factory string to an empty FAISS index whose sizes fit the corpus.

The rules, each overridden by the setting of its name (`retriever.nlist`, `.pq`, `.nprobe`):

    {nlist}  inverted lists: the power of two nearest to 4 * sqrt(chunks), lowered until every list
             has 39 training points, the least that FAISS accepts silently
    {pq}     sub-quantisers x bits: as many sub-quantisers as divide the width into parts of 8
             numbers or more; 8 bits a code, or fewer (down to 4) while 39 points a centroid are
             missing
    {opq}    the same number of sub-quantisers, for the rotation before them
    nprobe   a sixteenth of the lists, at least one

Training takes a sample of the database (`faiss_blocks.py`); FAISS itself takes at most 256 of it
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

POINTS_PER_CENTROID = 39  # below it, FAISS warns that k-means is undertrained
MAX_CODE_BITS = 8
MIN_CODE_BITS = 4
DIMS_PER_CODE = 8


def fill_factory(
    factory: str, size: int, width: int, nlist: int | None = None, pq: int | None = None
) -> str:
    """The factory string with its placeholders filled for `size` vectors of `width` numbers.

    Args:
        nlist: inverted lists; None takes the rule.
        pq: sub-quantisers; None takes the rule.

    Raises:
        UserError: a placeholder of another name.
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
    """Inverted lists that a query visits.

    Args:
        nprobe: as set; None takes the rule.
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
    """An empty index that trains quietly and without the polysemous codes nobody asks for."""
    import faiss

    index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    for part in _parts(index):
        if hasattr(part, "cp"):
            part.cp.min_points_per_centroid = 1
        if hasattr(part, "pq"):
            part.pq.cp.min_points_per_centroid = 1
            if hasattr(part, "do_polysemous_training"):
                part.do_polysemous_training = False  # takes most of the time, never searched
    return index


def check_factory(
    config: FaissRetrieverConfig, size: int, width: int, key: str = "retriever"
) -> None:
    """What `FaissRetriever.build` would refuse, found out without vectors.

    Args:
        size: chunks of the database; for placeholders, and the points to train on.
        width: of an embedding.
        key: where the settings stand, for errors.

    Raises:
        UserError: FAISS doesn't know the factory or can't divide the width by it, or there are too
            few chunks to train on.
    """
    factory = fill_factory(config.factory, size, width, config.nlist, config.pq)
    with as_user_error(config.factory, factory, size, width, key):
        index = create_index(factory, width)
        _require_reduction(index)
    require_points(index, config.factory, factory, size, key)


def _require_reduction(index: Any) -> None:
    """In FAISS's place, which says it only when it trains."""
    import faiss

    whole = faiss.downcast_index(index)
    for step in _chain(whole) if isinstance(whole, faiss.IndexPreTransform) else []:
        if isinstance(step, faiss.PCAMatrix) and step.d_out > step.d_in:
            raise RuntimeError(f"PCA can't make {step.d_out} numbers out of {step.d_in}")


def train_index(index: Any, vectors: np.ndarray) -> None:
    """Train on the vectors given, float32 [S, E]."""
    import faiss

    whole = faiss.downcast_index(index)
    if not isinstance(whole, faiss.IndexPreTransform):
        index.train(vectors)
        return
    rotation = _rotation(index)
    if rotation is not None:
        _train_rotation(rotation, index, vectors)
    with one_thread():  # matrix products vary with their number
        for step in _chain(whole):
            if not step.is_trained:
                step.train(vectors)
            vectors = step.apply(vectors)
    faiss.downcast_index(whole.index).train(vectors)
    whole.is_trained = True


def _train_rotation(rotation: Any, index: Any, vectors: np.ndarray) -> None:
    """For the codes that the index will use; left alone it takes 8 bits, however few the points."""
    import faiss

    codes = next((part.pq for part in _parts(index) if hasattr(part, "pq")), None)
    trial = faiss.ProductQuantizer(rotation.d_out, rotation.M, codes.nbits if codes else 8)
    trial.cp.min_points_per_centroid = 1
    rotation.pq = trial
    with one_thread():
        rotation.train(vectors)
    rotation.pq = None  # it dies with this function


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
    """The most that k-means looks for at once, 1 where there is none."""
    parts = _parts(index)
    return max(
        [1]
        + [part.nlist for part in parts if hasattr(part, "nlist")]
        + [part.pq.ksub for part in parts if hasattr(part, "pq")]
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS uses one thread inside, as many as before after."""
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
    """FAISS's own exceptions, while it makes an index, are about the factory or the corpus."""
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
    """The index, what lies behind its rotation, and the inverted file, as the classes they are."""
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
    """The transforms before an index, as the classes they are."""
    import faiss

    return [faiss.downcast_VectorTransform(whole.chain.at(i)) for i in range(whole.chain.size())]

"""Trains a FAISS index on a sample and writes it block by block, to bound memory.

FAISS fills an index in memory and writes it whole. Most index types end, as files, with the stored
vectors: as codes (Flat, SQ) or in inverted lists (IVF). Here these parts are computed in blocks and
written from disk, to the same file that FAISS would write. Codes of inverted files are blocks of
the stage, so a killed build resumes after the last one.

Training takes one random vector from each of equal parts of the database, or all of a small one.

Legend: S vectors, E width of one, B bytes of a code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from retro_lab.store.progress import track
from retro_lab.store.workspace import Workspace

from ..base import RowSource
from .faiss_factory import centroids, train_index
from .faiss_search import inner_index, transformed

BLOCK = 2**16


@dataclass(frozen=True)
class BuildLimits:
    """Limits on memory while an index is built.

    Attributes:
        block: vectors in memory, the most that an interrupted build loses.
        sample: vectors to train on, or `points` for each centroid if that is more.
        points: vectors to train on for each centroid.
        sorted_bytes: bytes of inverted-list entries sorted at once.
        scanned: list numbers scanned at once.
    """

    block: int = BLOCK
    sample: int = 2**18
    points: int = 64
    sorted_bytes: int = 2**27
    scanned: int = 2**22


LIMITS = BuildLimits()
_NO_CODES = struct.pack("<Q", 0)  # the end of an empty index's file: no codes


def sample_size(size: int, centroids: int, limits: BuildLimits = LIMITS) -> int:
    """Number of training vectors for an index of `size` vectors."""
    return min(size, max(limits.sample, limits.points * centroids))


def trained(
    index: Any, vectors: RowSource, workspace: Workspace | None, limits: BuildLimits = LIMITS
) -> Any:
    """Trains the index and returns it; with a workspace, only once over interrupted builds."""
    import faiss

    def train() -> None:
        size = len(vectors)
        count = sample_size(size, centroids(index), limits)
        sample = vectors[_spread(size, count)] if count < size else vectors[:]
        train_index(index, sample.astype(np.float32, copy=False))

    if workspace is None:
        train()
        return index

    def produce(start: int, stop: int) -> dict[str, np.ndarray]:
        train()
        return {"trained": faiss.serialize_index(index)}

    workspace.blocks(1, 1, produce, what="training", unit="indexes", published=False)
    return faiss.deserialize_index(np.load(workspace.scratch / "trained.npy"))


def writes_blocks(index: Any) -> bool:
    """Whether `write_filled` supports this empty index."""
    import faiss

    inner = inner_index(index)
    whole = (faiss.IndexFlat, faiss.IndexFlatIP, faiss.IndexScalarQuantizer)
    lists = (faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer)
    if type(inner) not in (*whole, *lists):
        return False
    end = _no_lists(inner) if type(inner) in lists else _NO_CODES
    return faiss.serialize_index(index).tobytes().endswith(end)


def write_filled(
    index: Any,
    vectors: RowSource,
    path: Path,
    workspace: Workspace,
    limits: BuildLimits = LIMITS,
) -> None:
    """Writes a trained, empty index as if all vectors, [S, E], had been added.

    Args:
        index: accepted by `writes_blocks`; must not be used afterwards.
    """
    import faiss

    with path.open("wb") as out:
        if isinstance(inner_index(index), faiss.IndexIVF):
            lists, codes = _encoded(index, vectors, workspace, limits.block)
            _write_lists(index, lists, codes, out, limits)
        else:
            _write_codes(index, vectors, out, limits.block)


def _spread(size: int, count: int) -> np.ndarray:
    """int64 [count], ascending: a random position in each of `count` equal parts."""
    edges = np.linspace(0, size, count + 1).astype(np.int64)
    share = np.random.default_rng(0).random(count)
    return edges[:-1] + (share * np.diff(edges)).astype(np.int64)


@dataclass(frozen=True)
class _Encoding:
    """Computes inverted list int32 [n] and code uint8 [n, B] of a block of vectors, in any process.

    Attributes:
        trained: an empty index, serialised by FAISS.
        vectors: [S, E].
    """

    trained: np.ndarray
    vectors: RowSource

    def __reduce__(self) -> tuple[type[_Encoding], tuple]:
        return type(self), (self.trained, self.vectors)

    @cached_property
    def index(self) -> Any:
        """The index, deserialised once in each process."""
        import faiss

        return faiss.deserialize_index(self.trained)

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray]:
        import faiss

        inner = inner_index(self.index)
        centres = faiss.downcast_index(inner.quantizer)
        block = transformed(self.index, self.vectors[start:stop].astype(np.float32))
        lists = centres.assign(block, 1)[:, 0]
        codes = np.empty((len(block), inner.code_size), np.uint8)
        pointers = map(faiss.swig_ptr, (block, lists, codes))
        inner.encode_vectors(len(block), *pointers)
        return {"lists": lists.astype(np.int32), "codes": codes}


def _encoded(
    index: Any, vectors: RowSource, workspace: Workspace, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inverted list int32 [S] and code uint8 [S, B] of each vector, memory-mapped."""
    import faiss

    work, size = _Encoding(faiss.serialize_index(index), vectors), len(vectors)
    workspace.blocks(
        size, block, work, what="indexing", unit="chunks", published=False, anywhere=True
    )
    lists, codes = (
        np.load(workspace.scratch / name, mmap_mode="r", allow_pickle=False)
        for name in ("lists.npy", "codes.npy")
    )
    return lists, codes


def _write_codes(index: Any, vectors: RowSource, out: BinaryIO, at_once: int) -> None:
    import faiss

    inner, size = inner_index(index), len(vectors)
    numbers = isinstance(inner, faiss.IndexFlat)  # FAISS counts these codes in float32
    out.write(_head(index, size, _NO_CODES))
    out.write(struct.pack("<Q", size * inner.code_size // (4 if numbers else 1)))
    with track(size, "indexing", "chunks") as advance:
        for start in range(0, size, at_once):
            block = transformed(index, vectors[start : start + at_once].astype(np.float32))
            out.write(inner.sa_encode(block).tobytes())
            advance(len(block))


def _write_lists(
    index: Any, lists: np.ndarray, codes: np.ndarray, out: BinaryIO, limits: BuildLimits
) -> None:
    """Writes the lists in order; each holds the codes and then the positions of its vectors."""
    inner = inner_index(index)
    count = inner.nlist
    sizes = np.zeros(count, np.int64)
    for _, part in _parts(lists, limits.scanned):
        sizes += np.bincount(part, minlength=count)
    out.write(_head(index, len(lists), _no_lists(inner)))
    out.write(_lists_head(inner) + struct.pack("<4sQ", b"full", count) + sizes.tobytes())
    ends = np.cumsum(sizes)
    at_once = limits.sorted_bytes // (inner.code_size + 8)
    first = 0
    with track(len(lists), "joining the index", "chunks") as advance:
        while first < count:
            written = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, written + at_once, "right")))
            places = np.concatenate(
                [
                    at + np.flatnonzero((p >= first) & (p < last))
                    for at, p in _parts(lists, limits.scanned)
                ]
            )
            order = np.argsort(lists[places], kind="stable")
            ordered, stored = places[order], codes[places][order]
            for stop, size in zip(ends[first:last] - written, sizes[first:last], strict=True):
                out.write(stored[stop - size : stop].tobytes())
                out.write(ordered[stop - size : stop].tobytes())
            advance(len(places))
            first = last


def _parts(lists: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Start and content of each part of the list numbers."""
    for start in range(0, len(lists), size):
        yield start, lists[start : start + size]


def _head(index: Any, size: int, end: bytes) -> bytes:
    """Start of the file of an index like this empty one with `size` vectors."""
    import faiss

    index.ntotal = inner_index(index).ntotal = size
    return faiss.serialize_index(index).tobytes().removesuffix(end)


def _lists_head(inner: Any) -> bytes:
    return struct.pack("<4sQQ", b"ilar", inner.nlist, inner.code_size)


def _no_lists(inner: Any) -> bytes:
    """The end of an empty inverted file: no lists."""
    return _lists_head(inner) + struct.pack("<4sQ", b"sprs", 0)

"""Reads what followed a context in a database: counts for each length of context, by document.

The C function of `kernels/contexts.c` does the work where a compiler is found; otherwise
`plain_contexts.py`, which also says what it must return.

Legend: T queries, L = `LONGEST`, O orders, W weightings, D documents, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_int, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.nn.cpu.compiled import FLAGS, compiled

from .plain_contexts import Counted, plain_counts
from .sorted_contexts import LONGEST, Segment, StoredTokens

ORDERS = (*range(1, 9), 10, 12, 16, 24, 32)
"""Lengths of context that are counted."""
MOST = 4096
"""Entries counted for one length of context; of more, every s-th one is."""
MOST_WEIGHTINGS = 8
"""As in contexts.c."""
KERNELS = Path(__file__).parent / "kernels"


class ContextCounts(NamedTuple):
    """What followed each query's context, for each order, under each weighting of documents.

    Attributes:
        total: float32 [T, O, W], weight of all occurrences; 0 without evidence.
        hit: float32 [T, O, W], weight of those that the target followed.
        best: float32 [T, O, W], weight of those that the favourite followed.
        favourite: int32 [T, O, W], the token of most weight, the lowest id of equal ones; -1 for
            none.
        types: int32 [T, O], different tokens that followed.
        documents: int32 [T, O], documents with an occurrence.
    """

    total: NDArray[np.float32]
    hit: NDArray[np.float32]
    best: NDArray[np.float32]
    favourite: NDArray[np.int32]
    types: NDArray[np.int32]
    documents: NDArray[np.int32]

    @classmethod
    def empty(cls, queries: int, orders: int, weightings: int) -> ContextCounts:
        """Counts without any evidence."""
        shape = (queries, orders, weightings)
        total, hit, best = np.zeros((3, *shape), np.float32)
        types, documents = np.zeros((2, *shape[:2]), np.int32)
        return cls(total, hit, best, np.full(shape, -1, np.int32), types, documents)


class ContextReader:
    """Counts of what follows a context in the documents of a chunk store.

    Args:
        chunks: the store.
        segments: its sorted contexts.
        orders: lengths of context, ascending.
        most: entries counted for one order.
        max_run: leaves out occurrences that match more than this many tokens; None keeps all.
    """

    def __init__(
        self,
        chunks: StoredTokens,
        segments: Sequence[Segment],
        *,
        orders: Sequence[int] = ORDERS,
        most: int = MOST,
        max_run: int | None = None,
    ) -> None:
        self.chunks, self.segments = chunks, list(segments)
        self.orders, self.most, self.max_run = tuple(orders), most, max_run
        self._kept: list[object] = []
        self._memories: dict[int, _Memory] = {}

    @property
    def entries(self) -> int:
        """Tokens of the database."""
        return sum(len(segment.order) for segment in self.segments)

    def counts(
        self,
        contexts: NDArray[np.int32],
        targets: NDArray[np.int32],
        weights: NDArray[np.float32],
        *,
        limits: NDArray[np.int64] | None = None,
        threads: int = 1,
    ) -> ContextCounts:
        """What followed each context.

        Args:
            contexts: [T, L], the last token first, -1 beyond the document's start.
            targets: [T], the token to look for; -1 for none.
            weights: [D, W], weight of an occurrence by document; 0 in the first column leaves the
                document out.
            limits: [T], flat place from which on occurrences are left out.
        """
        asked = _Asked(contexts, targets, limits, weights)
        found = ContextCounts.empty(len(contexts), len(self.orders), weights.shape[1])
        self._read(asked, found, None, threads)
        return found

    def mixture(
        self,
        contexts: NDArray[np.int32],
        weights: NDArray[np.float32],
        shares: NDArray[np.float32],
        threads: int = 1,
    ) -> NDArray[np.float32]:
        """[T, V], the sum over orders and weightings of share times distribution.

        Args:
            contexts, weights: as in `counts`.
            shares: [T, O, W]; where there is no evidence a share adds nothing.
        """
        nobody = np.full(len(contexts), -1, np.int32)
        asked = _Asked(contexts, nobody, None, weights, shares)
        counts = ContextCounts.empty(len(contexts), len(self.orders), weights.shape[1])
        found = np.zeros((len(contexts), self.chunks.vocab_size), np.float32)
        self._read(asked, counts, found, threads)
        return found

    def _read(
        self,
        asked: _Asked,
        found: ContextCounts,
        mixture: NDArray[np.float32] | None,
        threads: int,
    ) -> None:
        """Fills the counts, and the mixture [T, V] if there is one."""
        library = _library()
        if library is None:
            for row in range(len(asked.contexts)):
                self._read_plain(asked, row, found, mixture)
            return
        types = np.int32, np.int32, np.int64, np.float32, np.float32, np.int64
        turns = np.argsort(asked.contexts[:, 0], kind="stable")  # those that end alike in turn
        given = [
            None if array is None else np.ascontiguousarray(array, kind)
            for array, kind in zip((*asked, turns), types, strict=True)
        ]
        queries, out = _Queries(*map(_address, given)), _Evidence(*map(_address, (*found, mixture)))
        memory = self._memory(asked.weights.shape[1])
        failed = library.read_contexts(
            ctypes.byref(memory),
            ctypes.byref(queries),
            len(found.total),
            ctypes.byref(out),
            threads,
        )
        if failed:
            raise MemoryError("reading the contexts of a memory")

    def _read_plain(
        self, asked: _Asked, row: int, found: ContextCounts, mixture: NDArray[np.float32] | None
    ) -> None:
        limit = None if asked.limits is None else int(asked.limits[row])
        counted = Counted(self.orders, self.most, self.max_run, limit)
        every = plain_counts(
            self.chunks, self.segments, asked.contexts[row], asked.weights, counted
        )
        for order, (counts, documents) in enumerate(every):
            if not counts.any():
                continue
            found.total[row, order] = total = counts.sum(0)
            found.types[row, order] = (counts[:, 0] > 0).sum()
            found.best[row, order] = counts.max(0)
            found.favourite[row, order] = np.where(total > 0, counts.argmax(0), -1)
            found.documents[row, order] = documents
            if asked.targets[row] >= 0:
                found.hit[row, order] = counts[asked.targets[row]]
            if mixture is not None and asked.shares is not None:
                mixture[row] += counts @ (asked.shares[row, order] / np.where(total > 0, total, 1))

    def _memory(self, weightings: int) -> _Memory:
        """The struct `Memory` of contexts.c; the arrays that it points to are kept."""
        if weightings > MOST_WEIGHTINGS:
            raise ValueError(f"{weightings} weightings, and contexts.c counts {MOST_WEIGHTINGS}")
        if weightings not in self._memories:
            chunks = self.chunks
            segments = (_Segment * len(self.segments))()
            for at, segment in enumerate(self.segments):
                order, following = segment.order, segment.following
                segments[at] = _Segment(
                    segment.base, len(order), order.ctypes.data, following.ctypes.data
                )
            orders = np.array(self.orders, np.int64)
            self._kept += [segments, orders]
            self._memories[weightings] = _Memory(
                chunks.tokens.ctypes.data,
                chunks.tokens.dtype.itemsize,
                chunks.document.ctypes.data,
                chunks.first_chunk.ctypes.data,
                *(chunks.chunk_size, chunks.boundary_id, chunks.vocab_size, chunks.num_documents),
                len(segments),
                ctypes.addressof(segments),
                len(orders),
                orders.ctypes.data,
                *(LONGEST, self.most, self.max_run or 0, weightings),
            )
        return self._memories[weightings]


class _Asked(NamedTuple):
    """What is asked: contexts int32 [T, L], targets int32 [T], limits int64 [T], weights float32
    [D, W], shares float32 [T, O, W]; in the order of the struct `Queries` of contexts.c,
    after which the turns of the queries come, int64 [T].
    """

    contexts: NDArray[np.int32]
    targets: NDArray[np.int32]
    limits: NDArray[np.int64] | None
    weights: NDArray[np.float32]
    shares: NDArray[np.float32] | None = None


class _Segment(Structure):
    _fields_ = [("base", c_long), ("entries", c_long), ("order", c_void_p), ("next", c_void_p)]


class _Memory(Structure):
    _fields_ = [
        ("tokens", c_void_p),
        ("token_bytes", c_long),
        ("document", c_void_p),
        ("first_chunk", c_void_p),
        *((name, c_long) for name in ("chunk_size", "boundary", "vocabulary", "documents")),
        ("num_segments", c_long),
        ("segments", c_void_p),
        ("num_orders", c_long),
        ("orders", c_void_p),
        *((name, c_long) for name in ("length", "most", "max_run", "num_weightings")),
    ]


class _Queries(Structure):
    _fields_ = [
        (name, c_void_p) for name in ("contexts", "targets", "limits", "weights", "shares", "turns")
    ]


class _Evidence(Structure):
    _fields_ = [
        (name, c_void_p)
        for name in ("total", "hit", "best", "favourite", "types", "documents", "mixture")
    ]


def _address(array: NDArray | None) -> int | None:
    return None if array is None else array.ctypes.data


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled kernel; None without a compiler."""
    library, _ = compiled(KERNELS, FLAGS)
    if library is not None:
        pointers = POINTER(_Memory), POINTER(_Queries), c_long, POINTER(_Evidence)
        library.read_contexts.argtypes = [*pointers, c_int]
        library.read_contexts.restype = c_int
    return library

"""Computes where windows start and which tokens each window scores.

A window is a sequence of consecutive chunks of one split. Training windows are cut from the split's
chunks end to end and may hold several documents. Evaluation windows stay inside a document and
overlap, and each token of the document is scored in exactly one window.

Legend: W windows, D documents, U chunks a window, M tokens a chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.text.chunks import ChunkStore

IntArray = NDArray[np.int64]


class Window(NamedTuple):
    """Windows as columns of int64, each [W].

    Attributes:
        start_chunk: place of the first chunk in `store.chunks_of(split)`.
        num_chunks: real chunks in the window, at most U; the rest is padding.
        first_target: first window position whose target is scored.
    """

    start_chunk: IntArray
    num_chunks: IntArray
    first_target: IntArray

    @property
    def count(self) -> int:
        """Number of windows W."""
        return len(self.start_chunk)

    def take(self, rows: IntArray) -> Window:
        """The windows with these numbers; -1 gives an empty window."""
        real = rows >= 0
        if not self.count:
            assert not real.any()
            return Window(*(np.zeros(len(rows), np.int64) for _ in self))
        return Window(*(np.where(real, column[rows], 0) for column in self))


def training_windows(num_chunks: int, window_chunks: int) -> Window:
    """Cuts `num_chunks` chunks end to end into windows of `window_chunks`; the last may be short.

    Source: RETRO (an example of n tokens is l chunks of m).
    """
    start = np.arange(0, num_chunks, window_chunks, dtype=np.int64)
    return Window(
        start_chunk=start,
        num_chunks=np.minimum(window_chunks, num_chunks - start),
        first_target=np.zeros_like(start),
    )


def evaluation_windows(
    first_chunk: IntArray,
    last_token: IntArray,
    window_chunks: int,
    stride_chunks: int,
    chunk_size: int,
) -> Window:
    """Overlapping windows inside documents that score each token except the boundary once.

    Positions count from the boundary token, 0. A window over chunks [a, b) scores targets up to
    position b * M, the first token of chunk b, which the last token of chunk b - 1 predicts.
    Windows start every S chunks until the last token is scored. Each window scores only targets
    after the end of the window before.

    Args:
        first_chunk: [D + 1], place of each document's first chunk; the last entry is the total.
        last_token: [D], position of the document's last token; 0 for an empty document.
        window_chunks: U.
        stride_chunks: S, from 1 to U.
        chunk_size: M.

    Source: RETRO's evaluation (documents scored whole, with a stride).
    """
    assert 1 <= stride_chunks <= window_chunks
    document_chunks = np.diff(first_chunk)
    chunks_to_read = -(-last_token // chunk_size)  # chunks that predict at least one target
    overhang = np.maximum(chunks_to_read - window_chunks, 0)
    per_document = np.where(last_token > 0, -(-overhang // stride_chunks) + 1, 0)

    document = np.repeat(np.arange(len(last_token)), per_document)
    before = np.cumsum(per_document) - per_document
    number = np.arange(len(document)) - before[document]  # window number within its document
    offset = number * stride_chunks
    fresh = (window_chunks - stride_chunks) * chunk_size
    return Window(
        start_chunk=first_chunk[document] + offset,
        num_chunks=np.minimum(window_chunks, document_chunks[document] - offset),
        first_target=np.where(number == 0, 0, fresh).astype(np.int64),
    )


def split_documents(store: ChunkStore, split: str) -> tuple[IntArray, IntArray]:
    """Begin and end of each document of a split, for `evaluation_windows`.

    Returns:
        first_chunk [D + 1], places in `store.chunks_of(split)`, and last_token [D], positions.
    """
    chunks = store.chunks_of(split)
    document = np.asarray(store.document[chunks])
    starts = np.flatnonzero(np.diff(document, prepend=-1) != 0)
    first_chunk = np.append(starts, len(chunks)).astype(np.int64)
    tail = np.asarray(store.tokens[chunks[first_chunk[1:] - 1]])
    tail_tokens = (tail != store.pad_id).sum(axis=1)
    whole_chunks = np.diff(first_chunk) - 1
    return first_chunk, (whole_chunks * store.chunk_size + tail_tokens - 1).astype(np.int64)

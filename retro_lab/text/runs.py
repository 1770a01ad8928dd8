"""Longest common token runs: how much of one text stands, token for token, in another.

Two questions, because they differ in cost by two orders of magnitude: how long is the longest run
(dynamic programming over every pair of places), and is there a run of n (a few hashed windows
decide nearly all pairs, and the rest are measured). Retrieval filters, the oracle and the leakage
measure share them.

In all arrays a negative token matches nothing, provided that the two sides use different ones.
Shapes: P pairs or Q queries, M tokens of a query, K references, R tokens of a reference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PAIR_BLOCK = 1024
"""Pairs a pass: two [M, PAIR_BLOCK] tables of small integers stay in a core's cache."""

SHORT_RUN = 12
"""Below it, so many windows are hashed and found by chance that measuring every pair is faster."""

NO_MATCH_LEFT, NO_MATCH_RIGHT = np.int32(-1), np.int32(-2)
"""In the place of padding and boundaries, one for each side, so that they equal nothing."""

_BASE = np.uint64(0x9E3779B97F4A7C15)


def block_runs(chunks: NDArray[np.int32], references: NDArray[np.int32]) -> NDArray:
    """Longest contiguous run that each chunk shares with any one of its references.

    Exact dynamic programming over reference positions, O(M K R) a chunk. Chunks lie along the last
    axis, so that every step is one contiguous pass; give at most about a thousand.

    Args:
        chunks: [Q, M].
        references: [Q, K, R].

    Returns:
        [Q], the smallest unsigned type that holds M.
    """
    num_chunks, m = chunks.shape
    chunk_mq = np.ascontiguousarray(chunks.T)
    reference_krq = np.ascontiguousarray(references.transpose(1, 2, 0))
    dtype = np.min_scalar_type(m)
    best = np.zeros((m, num_chunks), dtype)
    # run[i + 1] = length of the common run that ends at chunk position i; row 0 stays zero.
    run, following = (np.zeros((m + 1, num_chunks), dtype) for _ in range(2))
    for reference_rq in reference_krq:
        run.fill(0)
        for token_q in reference_rq:
            np.add(run[:-1], 1, out=following[1:])
            np.multiply(following[1:], chunk_mq == token_q, out=following[1:])
            np.maximum(best, following[1:], out=best)
            run, following = following, run
    return best.max(axis=0, initial=0)


def pair_runs(left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.int32]:
    """Longest common run of each pair.

    Args:
        left: [P, M] tokens, negative for none.
        right: [P, R] tokens, negative for none.

    Returns:
        int32 [P].
    """
    longest = np.zeros(len(left), np.int32)
    for start in range(0, len(left), PAIR_BLOCK):
        part = slice(start, start + PAIR_BLOCK)
        longest[part] = block_runs(_ours(left[part]), _theirs(right[part])[:, None])
    return longest


def share_run(
    left: NDArray[np.integer], right: NDArray[np.integer], row: NDArray[np.integer], length: int
) -> NDArray[np.bool_]:
    """Whether each pair has a common run of `length` tokens or more; exact.

    A run of n tokens in the right text holds one of its windows of q <= n tokens that begin at
    multiples of n - q + 1. So a pair can only have such a run if the hash of one of these few
    windows is the hash of some window on the left; those pairs alone are measured.

    Args:
        left: [Q, M] tokens, negative for none.
        right: [P, R] tokens, negative for none.
        row: int [P], the row of `left` that a pair compares with.
        length: at least 1.
    """
    shared = np.zeros(len(right), bool)
    if length > min(left.shape[1], right.shape[1]):
        return shared
    if length < SHORT_RUN:
        return pair_runs(left[row], right) >= length
    window = max(1, length // 2)
    ours = _window_hashes(_ours(left), window, step=1)
    for start in range(0, len(right), PAIR_BLOCK):
        part = slice(start, start + PAIR_BLOCK)
        of_row = ours[row[part]]
        suspect = np.zeros(len(of_row), bool)
        for anchor in _window_hashes(_theirs(right[part]), window, length - window + 1).T:
            suspect |= (of_row == anchor[:, None]).any(axis=1)
        pairs = start + np.flatnonzero(suspect)
        shared[pairs] = pair_runs(left[row[pairs]], right[pairs]) >= length
    return shared


def _ours(tokens: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.where(tokens < 0, NO_MATCH_LEFT, tokens.astype(np.int32))


def _theirs(tokens: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.where(tokens < 0, NO_MATCH_RIGHT, tokens.astype(np.int32))


def _window_hashes(tokens: NDArray[np.int32], window: int, step: int) -> NDArray[np.uint32]:
    """[P, W] polynomial hashes of the windows that begin at multiples of `step`."""
    windows = np.lib.stride_tricks.sliding_window_view(tokens, window, axis=1)[:, ::step]
    hashes = np.zeros(windows.shape[:2], np.uint64)
    for place in range(window):
        hashes = hashes * _BASE + windows[..., place].astype(np.uint64)
    return (hashes >> np.uint64(32)).astype(np.uint32)

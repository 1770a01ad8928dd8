"""r(C): how much of a chunk stands, word for word, in one of its neighbours (RETRO, B.1).

One reading of ours: the paper divides the longest run by the chunk size m. Here it is divided by
the chunk's own text tokens, so that a copied chunk has r(C) = 1 also when it is the first of a
document (its boundary token is no text) or the last (fewer than m tokens). No chunk is dropped,
and bpb(1) is the unfiltered value; last chunks are flagged as `partial`.

Shapes: Q chunks (queries), K references a chunk, R tokens a reference, M chunk size.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from retro_lab.text.runs import block_runs

BLOCK = 1024  # chunks a pass, few enough for a core's cache
MAX_DENOMINATOR = 1_000_000


def longest_common_run(
    chunks: NDArray[np.integer],
    references: NDArray[np.integer],
    pad_id: int,
    boundary_id: int,
    *,
    at_once: int = BLOCK,
) -> NDArray[np.int32]:
    """Length of the longest contiguous token run that a chunk shares with any one reference.

    Exact dynamic programming over reference positions, O(M K R) a chunk, vectorised over chunks.
    Pad and boundary tokens match nothing. Source: RETRO, section B.1.

    Args:
        chunks: [Q, M] token ids.
        references: [Q, K, R] token ids; K may be 0.
        pad_id: fills chunks and references.
        boundary_id: opens documents.
        at_once: chunks a pass.

    Returns:
        [Q] int32, 0 to M.
    """
    if chunks.shape[0] != references.shape[0]:
        raise ValueError(f"{chunks.shape[0]} chunks but references for {references.shape[0]}")
    longest = np.zeros(chunks.shape[0], np.int32)
    for start in range(0, chunks.shape[0], at_once):
        block = slice(start, start + at_once)
        # Two different sentinels, so that a special token equals nothing on the other side.
        chunk = _masked(chunks[block], (pad_id, boundary_id), -1)
        reference = _masked(references[block], (pad_id, boundary_id), -2)
        longest[block] = block_runs(chunk, reference)
    return longest


def _masked(tokens: NDArray, special: tuple[int, int], sentinel: int) -> NDArray[np.int32]:
    return np.where(np.isin(tokens, special), np.int32(sentinel), tokens.astype(np.int32))


def overlap_ratio(
    longest_run: NDArray[np.integer], text_tokens: NDArray[np.integer]
) -> NDArray[np.float64]:
    """r(C) = longest run / text tokens of the chunk, [Q] in 0..1; 0 for a chunk without text."""
    return longest_run / np.maximum(text_tokens, 1)


def within(
    alpha: float, longest_run: NDArray[np.integer], text_tokens: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Chunks with r(C) <= alpha, decided in integers, so 8 of 64 tokens are within 0.125.

    Alpha is read as the nearest fraction with a denominator up to a million: 0.29 means 29/100,
    though the nearest double lies below it.
    """
    bound = Fraction(alpha).limit_denominator(MAX_DENOMINATOR)
    run, tokens = longest_run.astype(np.int64), text_tokens.astype(np.int64)
    return run * bound.denominator <= tokens * bound.numerator

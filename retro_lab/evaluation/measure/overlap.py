"""r(C): the longest token run that a chunk shares with a neighbour, as a share of the chunk.

The paper (RETRO, B.1) divides the run by the chunk size m. Here it is divided by the number of the
chunk's text tokens, so that copied first chunks (with a boundary token) and last chunks (shorter
than m) have r(C) = 1 too. No chunk is dropped, so bpb(1) is the unfiltered value; last chunks are
flagged as `partial`.

Shapes: Q chunks (queries), K references a chunk, R tokens a reference, M chunk size.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from retro_lab.text.runs import block_runs

BLOCK = 1024  # chunks a pass; they fit into a core's cache
MAX_DENOMINATOR = 1_000_000


def longest_common_run(
    chunks: NDArray[np.integer],
    references: NDArray[np.integer],
    pad_id: int,
    boundary_id: int,
    *,
    at_once: int = BLOCK,
) -> NDArray[np.int32]:
    """Length of the longest contiguous token run that each chunk shares with one of its references.

    Exact dynamic programming over reference positions, O(M K R) a chunk, vectorised over chunks.
    Pad and boundary tokens match nothing. Source: RETRO, section B.1.

    Args:
        chunks: [Q, M] token ids.
        references: [Q, K, R] token ids; K may be 0.
        pad_id: id of padding.
        boundary_id: id of the token that begins a document.
        at_once: chunks a pass.

    Returns:
        [Q] int32, 0 to M.
    """
    if chunks.shape[0] != references.shape[0]:
        raise ValueError(f"{chunks.shape[0]} chunks but references for {references.shape[0]}")
    longest = np.zeros(chunks.shape[0], np.int32)
    for start in range(0, chunks.shape[0], at_once):
        block = slice(start, start + at_once)
        # Two different sentinels, so that special tokens never match.
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
    """[Q] whether r(C) <= alpha, compared as exact fractions: 8 of 64 tokens are within 0.125.

    Alpha is rounded to the nearest fraction with a denominator up to a million: 0.29 means 29/100,
    although the nearest double lies below it.
    """
    bound = Fraction(alpha).limit_denominator(MAX_DENOMINATOR)
    run, tokens = longest_run.astype(np.int64), text_tokens.astype(np.int64)
    return run * bound.denominator <= tokens * bound.numerator

"""Consecutive tokens of a document that are scored together, and the baseline's context of each."""

from __future__ import annotations

from typing import NamedTuple

from retro_lab.evaluation.compressors.subset import Subset

IGNORED = -100


class Block(NamedTuple):
    """Tokens scored after one retrieval or step; positions count from 0 in the document.

    Attributes:
        document: number in the corpus.
        start: first position scored.
        stop: one beyond the last position scored.
        context: first position of the baseline's window that scores `start`.
    """

    document: int
    start: int
    stop: int
    context: int


def blocks_of(subset: Subset, stride: int) -> list[Block]:
    """Blocks of `stride` tokens that cover every token of the subset except boundaries.

    Each block lies in the evaluation window that scores it, so without a passage it is predicted
    from the same context as by the baseline.

    Args:
        stride: a divisor of the evaluation's window and stride.
    """
    window, step = subset.chunking.sequence_length, subset.stride
    assert window % stride == 0
    assert step % stride == 0
    blocks = []
    for document in subset.documents.tolist():
        length = len(subset.tokens_of(document))
        for start in range(1, length, stride):
            number = max(0, -(-(start - window) // step))
            blocks.append(Block(document, start, min(start + stride, length), number * step))
    return blocks

"""Figures about counts that several kinds of experts give their gate.

Legend: T tokens, O orders, W weightings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .context_reader import ContextCounts


def shares(part: NDArray[np.float32], total: NDArray[np.float32]) -> NDArray[np.float32]:
    """part / total, 0 where there is no evidence."""
    return (part / np.where(total > 0, total, 1)).astype(np.float32)


def statistics(
    counts: ContextCounts, orders: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Of the first weighting: log-counts [T, O], share of the favourite [T, O], and the longest
    order with evidence [T, 1].
    """
    total = counts.total[:, :, 0]
    longest = ((total > 0) * np.array(orders)).max(axis=1, initial=0)[:, None]
    return np.log1p(total), shares(counts.best[:, :, 0], total), longest.astype(np.float32)

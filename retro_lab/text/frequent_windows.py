"""Token windows shared by many texts, as bit sets, to find pairs that share one at once.

Files with the same licence text share their first windows with all others. Comparing such windows
pair by pair is most of a filter's work; with bits it is one operation a pair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FREQUENT = 32
"""Number of texts from which a window counts as frequent."""

_MOST_WORDS = 4  # of 64 windows each; the most frequent windows are kept


class FrequentWindows:
    """Finds pairs of texts that share a frequent window; other pairs may share a rarer one.

    Args:
        text: int [E], the text of each entry.
        number: int [E], the number of its window; windows of one number have equal hashes.
        tokens: [E, n], the window's tokens. Entries that differ from the first of their number, in
            spite of equal hashes, are left out.
        num_texts: T.
    """

    def __init__(
        self,
        text: NDArray[np.integer],
        number: NDArray[np.integer],
        tokens: NDArray[np.integer],
        num_texts: int,
    ) -> None:
        windows, first, place = np.unique(number, return_index=True, return_inverse=True)
        same = (tokens == tokens[first[place]]).all(axis=1)
        words = -(-len(windows) // 64)
        self._bits = np.zeros((words, num_texts), np.uint64)
        bit = np.uint64(1) << (place % 64).astype(np.uint64)
        np.bitwise_or.at(self._bits, (place[same] // 64, text[same]), bit[same])

    def shared(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.bool_]:
        """bool [P], whether each pair of texts shares a frequent window."""
        found = np.zeros(len(left), bool)
        for bits in self._bits:
            found |= (bits[left] & bits[right]) != 0
        return found


def frequent(number: NDArray[np.integer]) -> NDArray[np.intp]:
    """Indices of the entries with a frequent window; at most 256 windows, the most frequent ones.

    Args:
        number: int [E], not negative: the window of each entry; each text has a window at most
            once.
    """
    counts = np.bincount(number)
    order = np.argsort(-counts, kind="stable")[: 64 * _MOST_WORDS]
    chosen = np.zeros(len(counts), bool)
    chosen[order[counts[order] >= FREQUENT]] = True
    return np.flatnonzero(chosen[number])

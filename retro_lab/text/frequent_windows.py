"""Windows of tokens that many texts have, as one bit each: pairs that share one are told at once.

Files that begin with one licence have their first windows in common with all others. Looked up pair
by pair, that is most of the work of a filter; as bits it is one operation a pair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FREQUENT = 32
"""Texts from which on a window is frequent."""

_MOST_WORDS = 4  # of 64 windows each, those of most texts


class FrequentWindows:
    """Says which pairs of texts share a frequent window; others may share a rarer one.

    Args:
        text: int [E], the text of each entry.
        number: int [E], which window it has; windows of one number have one hash.
        tokens: [E, n], the window's tokens, so that equal hashes decide nothing. An entry whose
            tokens aren't those of its number's first entry is left out.
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
        """bool [P], of pairs of texts."""
        found = np.zeros(len(left), bool)
        for bits in self._bits:
            found |= (bits[left] & bits[right]) != 0
        return found


def frequent(number: NDArray[np.integer]) -> NDArray[np.intp]:
    """Places of the entries whose window is frequent; of very many such, those of most texts.

    Args:
        number: int [E], not negative: the window of each entry, once a text.
    """
    counts = np.bincount(number)
    order = np.argsort(-counts, kind="stable")[: 64 * _MOST_WORDS]
    chosen = np.zeros(len(counts), bool)
    chosen[order[counts[order] >= FREQUENT]] = True
    return np.flatnonzero(chosen[number])

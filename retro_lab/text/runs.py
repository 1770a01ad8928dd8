"""Longest common token runs: the overlap of two texts, token for token.

Two functions differ in cost by two orders of magnitude. `pair_runs` measures the longest run by
dynamic programming over every pair of positions. `CommonRuns` decides whether a run of n exists, by
hashes of all windows of n tokens, which are compared token by token where they agree. Retrieval
filters, the oracle and the leakage measure use them.

In all arrays a negative token matches nothing, provided that the two sides use different ones.

Shapes: P pairs or Q queries, M tokens of a query, K references, R tokens of a reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .frequent_windows import FrequentWindows, frequent

PAIR_BLOCK = 1024
"""Pairs in a pass: two [M, PAIR_BLOCK] tables of small integers fit a core's cache."""

NO_MATCH_LEFT, NO_MATCH_RIGHT = np.int32(-1), np.int32(-2)
"""Replace padding and boundaries, with one value for each side, so that they match nothing."""

_BASE = 0x9E3779B97F4A7C15
_SPREAD, _MOST_BITS = 4, 22  # table entries per window, and bits of the largest table (4 MB)
_LOOKED_UP = 2**12  # pairs compared at once


def block_runs(chunks: NDArray[np.int32], references: NDArray[np.int32]) -> NDArray:
    """Longest contiguous run that each chunk shares with any one of its references.

    Exact dynamic programming over reference positions, O(M K R) a chunk. Chunks lie along the last
    axis, which makes every step one contiguous pass; pass at most about a thousand.

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


WindowHashes = Callable[[NDArray[np.int32], int], NDArray[np.uint64]]
"""Maps tokens [N, M] and a length L to hashes of all windows of L tokens, [N, M - L + 1]."""

PairRuns = Callable[[NDArray[np.integer], NDArray[np.integer]], NDArray[np.int32]]
"""Maps tokens of both sides, [P, M] and [P, R], to the longest common run of each pair."""


def pair_runs(
    left: NDArray[np.integer], right: NDArray[np.integer], *, at_once: int = PAIR_BLOCK
) -> NDArray[np.int32]:
    """Longest common run of each pair.

    Args:
        left: [P, M] tokens, negative for none.
        right: [P, R] tokens, negative for none.
        at_once: pairs in a pass.

    Returns:
        int32 [P].
    """
    longest = np.zeros(len(left), np.int32)
    for start in range(0, len(left), at_once):
        part = slice(start, start + at_once)
        longest[part] = block_runs(_left_tokens(left[part]), _right_tokens(right[part])[:, None])
    return longest


class CommonRuns:
    """Decides exactly whether pairs of texts have a common run of `length` tokens.

    A pair has one if and only if the two texts share a window of `length` tokens. Each text's
    windows are hashed once. Windows whose hash occurs in no text of the other side are dropped
    first. The rest are rows of a sparse array: two texts share a window if their rows share a
    column. Equal hashes are compared token by token.

    Args:
        left: [Q, M] tokens, negative for none.
        right: [U, R] tokens, negative for none.
        left_owner: int [Q], owner of each text; queries must pair different owners.
        right_owner: int [U].
        length: at least 1.
        hashes: hash function of windows; its collisions never change a result.
        runs: measures the pairs whose hashes are equal but whose tokens differ.
    """

    def __init__(
        self,
        left: NDArray[np.integer],
        right: NDArray[np.integer],
        left_owner: NDArray[np.integer],
        right_owner: NDArray[np.integer],
        length: int,
        *,
        hashes: WindowHashes | None = None,
        runs: PairRuns = pair_runs,
    ) -> None:
        from scipy.sparse import csr_array

        self._length, self._left, self._right = length, _left_tokens(left), _right_tokens(right)
        self._runs = runs
        hashes = hashes or window_hashes
        left_hashes, right_hashes = hashes(self._left, length), hashes(self._right, length)
        owners = np.concatenate([left_owner, right_owner])
        windows = _common_windows(left_hashes, right_hashes, owners)
        shape = (len(owners), windows.number.max(initial=0) + 1)
        starts: Any = csr_array((windows.start, (windows.text, windows.number)), shape=shape)
        self._starts = starts.data
        text = np.repeat(np.arange(shape[0]), np.diff(starts.indptr))
        self._keys = text * shape[1] + starts.indices
        there = np.ones(len(self._keys), bool)
        self._windows: Any = csr_array((there, starts.indices, starts.indptr), shape=shape)
        often = frequent(starts.indices)
        tokens = self._tokens(text[often], self._starts[often])
        self._often = FrequentWindows(text[often], starts.indices[often], tokens, shape[0])

    def shared(self, row: NDArray[np.integer], column: NDArray[np.integer]) -> NDArray[np.bool_]:
        """bool [P], whether each pair of a row of `left` and a row of `right` shares a window."""
        shared = self._often.shared(row, column + len(self._left))
        rest = np.flatnonzero(~shared)
        for start in range(0, len(rest), _LOOKED_UP):
            asked = rest[start : start + _LOOKED_UP]
            left, right = row[asked], column[asked]
            both = self._windows[left].multiply(self._windows[right + len(self._left)])
            pair = np.flatnonzero(np.diff(both.indptr))
            window = both.indices[both.indptr[pair]]  # any shared window decides a pair
            shared[asked[pair]] = self._same(left[pair], right[pair], window)
        return shared

    def _tokens(self, text: NDArray[np.integer], start: NDArray[np.integer]) -> NDArray[np.int32]:
        """[E, length], the windows that begin at these positions in texts of both sides."""
        tokens = np.empty((len(text), self._length), np.int32)
        ours = text < len(self._left)
        for side, texts, offset in (
            (ours, self._left, 0),
            (~ours, self._right, len(self._left)),
        ):
            where = start[side, None] + np.arange(self._length)
            tokens[side] = texts[text[side, None] - offset, where]
        return tokens

    def _same(
        self,
        row: NDArray[np.integer],
        column: NDArray[np.integer],
        window: NDArray[np.integer],
    ) -> NDArray[np.bool_]:
        """Whether each pair has the same tokens in `window`, or in any other window."""
        at_left, at_right = (
            self._starts[np.searchsorted(self._keys, text * self._windows.shape[1] + window)]
            for text in (row, column + len(self._left))
        )
        same = np.ones(len(row), bool)
        for step in range(self._length):
            same &= self._left[row, at_left + step] == self._right[column, at_right + step]
        chance = np.flatnonzero(~same)  # a hash collision: rare, so measured exactly
        measured = self._runs(self._left[row[chance]], self._right[column[chance]])
        same[chance] = measured >= self._length
        return same


def _common_windows(
    left: NDArray[np.uint64], right: NDArray[np.uint64], owner: NDArray[np.integer]
) -> _Windows:
    """Windows present on both sides and under at least two owners, numbered by hash.

    Hashes are sorted with their positions in the lowest bits: equal windows become adjacent, the
    left's before the right's.

    Args:
        left: [Q, W] hashes.
        right: [U, W'] hashes.
        owner: [Q + U].
    """
    at_right = _likely(right, left)
    at_left = _likely(left, right.reshape(-1)[at_right])
    flat = np.concatenate([at_left, at_right])
    texts = np.empty(len(flat), np.int32)
    texts[: len(at_left)] = at_left // left.shape[1]
    texts[len(at_left) :] = len(left) + at_right // right.shape[1]
    packed = np.concatenate([left.reshape(-1)[at_left], right.reshape(-1)[at_right]])
    bits = np.uint64(len(packed).bit_length())
    packed >>= bits
    packed <<= bits
    packed |= np.arange(len(packed), dtype=np.uint64)
    packed.sort()
    place = (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.intp)
    packed >>= bits
    text, new = texts[place], _changes(packed)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(new))[: len(first)] - 1
    owners = np.cumsum(_changes(owner[text]), dtype=np.int32)
    common = (text[first] < len(left)) & (text[last] >= len(left)) & (owners[first] < owners[last])
    sizes = last - first + 1
    kept = np.flatnonzero(np.repeat(common, sizes) & (new | _changes(text)))
    number = np.repeat(np.cumsum(common) - 1, sizes)[kept]
    text = text[kept]
    width = np.where(text < len(left), left.shape[1], right.shape[1])
    return _Windows(text, flat[place[kept]] % width, number).needed(width.max(initial=0))


class _Windows(NamedTuple):
    """Windows sorted by number: index of the text, first token's position, number."""

    text: NDArray[np.integer]
    start: NDArray[np.integer]
    number: NDArray[np.integer]

    def needed(self, width: int) -> _Windows:
        """Drops windows that follow one and the same other window in every text.

        Texts that share such a window share its predecessor too. The predecessor comes first in the
        text, so no two windows replace each other. At most `width` windows a text.
        """
        at = self.text * np.intp(width + 1) + self.start + 1
        there = np.full((self.text.max(initial=0) + 1) * (width + 1), -1, np.int32)
        there[at] = self.number
        before = there[at - 1]
        first = np.flatnonzero(_changes(self.number))
        last = np.append(first[1:], len(before))[: len(first)] - 1
        changes = np.cumsum(_changes(before))
        needed = (changes[first] < changes[last]) | (before[first] < 0)
        kept = needed[self.number]
        number = (np.cumsum(needed) - 1)[self.number[kept]]
        return _Windows(self.text[kept], self.start[kept], number)


def _changes(values: NDArray) -> NDArray[np.bool_]:
    """Whether each value differs from the one before; True for the first."""
    changes = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes


def _likely(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Flat indices of all hashes present among the others, plus a few false positives."""
    bits = max(1, min(_MOST_BITS, (_SPREAD * others.size).bit_length()))
    shift = np.uint64(64 - bits)
    there = np.zeros(2**bits, bool)
    there[others >> shift] = True
    return np.flatnonzero(there[hashes >> shift])


def _left_tokens(tokens: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.where(tokens < 0, NO_MATCH_LEFT, tokens.astype(np.int32))


def _right_tokens(tokens: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.where(tokens < 0, NO_MATCH_RIGHT, tokens.astype(np.int32))


def window_hashes(
    tokens: NDArray[np.int32], length: int, *, at_once: int = PAIR_BLOCK
) -> NDArray[np.uint64]:
    """[N, W] hashes of all windows of `length` tokens, combined from hashes of shorter windows."""
    hashes = np.empty((len(tokens), max(0, tokens.shape[1] - length + 1)), np.uint64)
    for start in range(0, len(tokens), at_once):
        part = tokens[start : start + at_once].astype(np.uint64) * np.uint64(_BASE)
        span = 1
        while 2 * span <= length:
            part = part[:, :-span] * _power(span) + part[:, span:]
            span *= 2
        if rest := length - span:  # the last two overlap
            part = part[:, :-rest] * _power(rest) + part[:, rest:]
        hashes[start : start + at_once] = part
    return hashes


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(_BASE, exponent, 2**64))

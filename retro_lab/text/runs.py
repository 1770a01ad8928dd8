"""Longest common token runs: how much of one text stands, token for token, in another.

Two questions, because they differ in cost by two orders of magnitude: how long is the longest run
(dynamic programming over every pair of places), and is there a run of n (hashes of all windows of n
tokens, compared token by token where they agree). Retrieval filters, the oracle and the leakage
measure share them.

In all arrays a negative token matches nothing, provided that the two sides use different ones.
Shapes: P pairs or Q queries, M tokens of a query, K references, R tokens of a reference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PAIR_BLOCK = 1024
"""Pairs a pass: two [M, PAIR_BLOCK] tables of small integers stay in a core's cache."""

NO_MATCH_LEFT, NO_MATCH_RIGHT = np.int32(-1), np.int32(-2)
"""In the place of padding and boundaries, one for each side, so that they equal nothing."""

_BASE, _TEXT = 0x9E3779B97F4A7C15, np.uint64(0xD6E8FEB86659FD93)
_SPREAD, _MOST_BITS = 16, 24  # places a window in the table of those that are there; 16 MB at most


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
    left: NDArray[np.integer],
    right: NDArray[np.integer],
    row: NDArray[np.integer],
    column: NDArray[np.integer],
    length: int,
) -> NDArray[np.bool_]:
    """Whether each pair has a common run of `length` tokens or more; exact.

    A pair has one if and only if the two texts share a window of `length` tokens. Each text's
    windows are hashed once, however many pairs it is in; those on the right whose hash stands
    nowhere on the left are dropped before any pair is looked at, and what is left is looked up pair
    by pair. Equal hashes are compared token by token.

    Args:
        left: [Q, M] tokens, negative for none.
        right: [U, R] tokens, negative for none.
        row: int [P], the row of `left` that a pair compares.
        column: int [P], the row of `right`.
        length: at least 1.
    """
    shared = np.zeros(len(row), bool)
    if length > min(left.shape[1], right.shape[1]):
        return shared
    ours, theirs = _ours(left), _theirs(right)
    known, asked = _common_windows(_window_hashes(ours, length), _window_hashes(theirs, length))
    pair, window = _windows_of_pairs(asked, column, len(right))

    # A window and its text in one number, which is looked up among the left's.
    keys = known.hash + known.text.astype(np.uint64) * _TEXT
    wanted = asked.hash[window] + (row.astype(np.uint64) * _TEXT)[pair]
    hit, at_left = _look_up(wanted, keys)
    pair, one = np.unique(pair[hit], return_index=True)  # any of its windows decides a pair
    at_left, at_right = at_left[one], window[hit[one]]

    same = np.ones(len(pair), bool)
    for step in range(length):
        tokens = ours[row[pair], known.start[at_left] + step]
        same &= tokens == theirs[column[pair], asked.start[at_right] + step]
    shared[pair[same]] = True
    chance = pair[~same]  # two windows of one hash: nearly never, so measured
    shared[chance] = pair_runs(left[row[chance]], right[column[chance]]) >= length
    return shared


class _Windows(NamedTuple):
    """Windows of some texts in order: the text's row, the first token's place, and the hash."""

    text: NDArray[np.integer]
    start: NDArray[np.integer]
    hash: NDArray[np.uint64]


def _common_windows(
    left: NDArray[np.uint64], right: NDArray[np.uint64]
) -> tuple[_Windows, _Windows]:
    """Of hashes [Q, W] and [U, W'], those that may stand on the other side as well."""
    asked = _windows(right, _Sieve(left))
    return _windows(left, _Sieve(asked.hash)), asked


def _windows(hashes: NDArray[np.uint64], sieve: _Sieve) -> _Windows:
    flat = np.flatnonzero(sieve.passes(hashes))
    text, start = np.divmod(flat, hashes.shape[1])
    return _Windows(text, start, hashes.reshape(-1)[flat])


def _windows_of_pairs(
    windows: _Windows, column: NDArray[np.integer], texts: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The windows of each pair's text, pair behind pair: number of the pair, and of the window."""
    first = np.searchsorted(windows.text, np.arange(texts + 1))
    counts = np.diff(first)[column]
    pair = np.repeat(np.arange(len(column)), counts)
    before = np.cumsum(counts) - counts
    return pair, np.arange(len(pair)) + np.repeat(first[column] - before, counts)


def _look_up(
    wanted: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Places of those wanted that are among the keys, ascending, and places of their keys."""
    likely = np.flatnonzero(_Sieve(keys).passes(wanted))
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], wanted[likely])
    place = order[np.minimum(place, len(keys) - 1)] if len(keys) else place[:0]
    found = keys[place] == wanted[likely]
    return likely[found], place[found]


class _Sieve:
    """Says of a hash whether it may be one of those given; of one that is, always."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        bits = max(1, min(_MOST_BITS, (_SPREAD * hashes.size).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._there = np.zeros(2**bits, bool)
        self._there[hashes >> self._shift] = True

    def passes(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return self._there[hashes >> self._shift]


def _ours(tokens: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.where(tokens < 0, NO_MATCH_LEFT, tokens.astype(np.int32))


def _theirs(tokens: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.where(tokens < 0, NO_MATCH_RIGHT, tokens.astype(np.int32))


def _window_hashes(tokens: NDArray[np.int32], length: int) -> NDArray[np.uint64]:
    """[N, W] hashes of all windows of `length` tokens, from those of its two halves and so on."""
    hashes = np.empty((len(tokens), tokens.shape[1] - length + 1), np.uint64)
    for start in range(0, len(tokens), PAIR_BLOCK):
        part = tokens[start : start + PAIR_BLOCK].astype(np.uint64) * np.uint64(_BASE)
        span = 1
        while 2 * span <= length:
            part = part[:, :-span] * _power(span) + part[:, span:]
            span *= 2
        if rest := length - span:  # the last two overlap
            part = part[:, :-rest] * _power(rest) + part[:, rest:]
        hashes[start : start + PAIR_BLOCK] = part
    return hashes


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(_BASE, exponent, 2**64))

"""Exact overlap: for every token, the longest run from it that occurs anywhere in the database.

r(C) against retrieved neighbours is a lower bound, since retrieval can miss a copy; this search
misses none. The suffixes of evaluated text and database are sorted together by prefix doubling
(Manber and Myers, 1993; Larsson and Sadakane, 2007). The longest run from a token is shared with
the nearest database suffix before or after its own. These lengths are the "matching statistics"
of Chang and Lawler (1994), counted token by token, without hashing.

Two savings keep the search near-linear. Only the first `limit` tokens of a suffix matter, which
takes about log2(limit) rounds. A group of equal prefixes is sorted further only while it holds
suffixes of both texts, because the order within one text is irrelevant.

Shapes: E tokens evaluated, D tokens of the database, n = E + 1 + D suffixes, S chunks, M tokens a
chunk.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

# Special tokens become gaps, one code for each text, so that they never match between texts.
_DATABASE_GAP, _TEXT_GAP, _FIRST_TOKEN = 0, 1, 2
_KEY_BITS = 63


def matching_runs(
    text: NDArray[np.integer],
    database: NDArray[np.integer],
    special: Collection[int],
    limit: int,
) -> NDArray[np.int32]:
    """Length of the longest run that begins at each token of `text` and occurs in `database`.

    Memory is about 40 bytes a token of both; time grows as n log n.

    Args:
        text: [E] token ids.
        database: [D] token ids of concatenated documents, a special token between them.
        special: ids of boundary and padding, which match nothing.
        limit: longer runs are cut to this length.

    Returns:
        [E] int32, 0 to `limit`.
    """
    if len(text) == 0 or len(database) == 0:
        return np.zeros(len(text), np.int32)
    codes = _codes(text, database, special, limit)
    order = _sorted_suffixes(codes, len(text), len(database), limit)
    in_database = order > len(text)
    text_slots = np.flatnonzero(order < len(text))
    database_slots = np.flatnonzero(in_database)
    after = np.searchsorted(database_slots, text_slots)
    suffixes = order[text_slots]
    longest = np.zeros(len(text), np.int32)
    # A suffix at either end of the order has one such neighbour, which is then compared twice.
    for nearest in (np.maximum(after - 1, 0), np.minimum(after, len(database_slots) - 1)):
        others = order[database_slots[nearest]]
        found = _common_prefix(codes, suffixes, others, limit)
        longest[suffixes] = np.maximum(longest[suffixes], found)
    return longest


def chunk_runs(matching: NDArray[np.integer]) -> NDArray[np.int32]:
    """Longest shared run within each chunk, from the matching runs of its tokens.

    Args:
        matching: [S, M]; a run is cut at the end of its chunk.

    Returns:
        [S] int32, 0 to M.
    """
    chunk_size = matching.shape[1]
    to_end = chunk_size - np.arange(chunk_size)
    return np.minimum(matching, to_end).max(axis=1, initial=0).astype(np.int32)


def covered(matching: NDArray[np.integer], minimum: int) -> NDArray[np.bool_]:
    """[T] whether each token lies in a shared run of at least `minimum` tokens.

    Args:
        matching: [T] matching runs of consecutive tokens.
    """
    places = np.arange(len(matching))
    ends = np.where(matching >= minimum, places + matching, 0)
    return np.maximum.accumulate(ends) > places


def _codes(text: NDArray, database: NDArray, special: Collection[int], limit: int) -> NDArray:
    """int32 [E + 1 + D + limit]: the text, a gap, the database, and `limit` gaps as an end."""
    codes = np.full(len(text) + 1 + len(database) + limit, _DATABASE_GAP, np.int32)
    first = len(text) + 1
    for start, tokens, gap in ((0, text, _TEXT_GAP), (first, database, _DATABASE_GAP)):
        part = codes[start : start + len(tokens)]
        np.add(tokens, _FIRST_TOKEN, out=part, casting="unsafe", dtype=np.int64)
        for token in special:
            part[tokens == token] = gap
    codes[len(text)] = _TEXT_GAP
    return codes


def _sorted_suffixes(codes: NDArray, num_text: int, num_database: int, limit: int) -> NDArray:
    """[n] suffixes sorted by their first `limit` tokens; order within one text is arbitrary."""
    n = num_text + 1 + num_database
    depth, key = _first_words(codes, n, limit)
    order = np.empty(n, np.int64)
    rank = np.zeros(n + limit, np.int64)  # first slot of a suffix's group, from 1; 0 past the end
    slots, members = np.arange(n), np.arange(n)  # slots still to be sorted, and their suffixes
    while True:
        by_key = np.argsort(key)
        key, members = key[by_key], members[by_key]
        order[slots] = members
        first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        size = np.diff(first, append=len(key))
        rank[members] = np.repeat(slots[first] + 1, size)
        if depth >= limit:
            return order
        from_text = np.add.reduceat(members <= num_text, first, dtype=np.int64)
        mixed = np.repeat((from_text > 0) & (from_text < size), size)
        slots, members = slots[mixed], members[mixed]
        if len(slots) == 0:
            return order
        key = rank[members] * (n + 1) + rank[members + depth]
        depth *= 2


def _first_words(codes: NDArray, n: int, limit: int) -> tuple[int, NDArray[np.int64]]:
    """How many tokens fit into an int64 key, and the key of each suffix's first tokens, [n]."""
    bits = int(codes.max()).bit_length()
    depth = min(_KEY_BITS // bits, limit)
    key = np.zeros(n, np.int64)
    for i in range(depth):
        key <<= bits
        key |= codes[i : i + n]
    return depth, key


def _common_prefix(codes: NDArray, a: NDArray, b: NDArray, limit: int) -> NDArray[np.int32]:
    """[n] length of the common prefix of suffixes a [n] and b [n], up to `limit` tokens."""
    length = np.zeros(len(a), np.int32)
    alike = np.arange(len(a))
    for i in range(limit):
        alike = alike[codes[a[alike] + i] == codes[b[alike] + i]]
        if len(alike) == 0:
            break
        length[alike] = i + 1
    return length

"""Exact overlap: from every token, the longest run that stands anywhere in the database.

The neighbours' r(C) sees only what a retriever happens to find; it is a lower bound. Here nothing
is missed: evaluated text and database are sorted together as suffixes, by prefix doubling (Manber
and Myers, 1993; Larsson and Sadakane, 2007), and the longest run from a token is shared with the
database suffix next before or next after its own. These lengths are the "matching statistics" of
Chang and Lawler (1994). No hashing: lengths are counted token by token at the end.

Two savings keep it near-linear. Only the first `limit` tokens of a suffix matter, so about
log2(limit) rounds do. And a group of equal prefixes is sorted further only while it holds suffixes
of both sides: within one side order is of no interest, and across sides the group's border has
already told how far they agree.

Legend: E tokens evaluated, D tokens of the database, n = E + 1 + D suffixes, S chunks, M tokens a
chunk.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

# Special tokens become gaps, another one on each side, so that they equal nothing across sides.
_DATABASE_GAP, _TEXT_GAP, _FIRST_TOKEN = 0, 1, 2
_KEY_BITS = 63


def matching_runs(
    text: NDArray[np.integer],
    database: NDArray[np.integer],
    special: Collection[int],
    limit: int,
) -> NDArray[np.int32]:
    """Length of the longest run that begins at each token of `text` and stands in `database`.

    Memory is about 40 bytes a token of both; time grows as n log n.

    Args:
        text: [E] token ids.
        database: [D] token ids, documents end to end with a special token between them.
        special: ids of boundary and padding, which match nothing.
        limit: longer runs count as this long.

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
    # At either end of the order there is one such neighbour; any other suffix does no harm.
    for nearest in (np.maximum(after - 1, 0), np.minimum(after, len(database_slots) - 1)):
        others = order[database_slots[nearest]]
        found = _common_prefix(codes, suffixes, others, limit)
        longest[suffixes] = np.maximum(longest[suffixes], found)
    return longest


def chunk_runs(matching: NDArray[np.integer]) -> NDArray[np.int32]:
    """Longest run that lies within each chunk, from its tokens' matching runs.

    Args:
        matching: [S, M]; a run may reach beyond its chunk, and is cut there.

    Returns:
        [S] int32, 0 to M.
    """
    chunk_size = matching.shape[1]
    to_end = chunk_size - np.arange(chunk_size)
    return np.minimum(matching, to_end).max(axis=1, initial=0).astype(np.int32)


def covered(matching: NDArray[np.integer], minimum: int) -> NDArray[np.bool_]:
    """Tokens that lie in a shared run of at least `minimum` tokens.

    Args:
        matching: [T] matching runs of consecutive tokens.
        minimum: tokens of the shortest run that counts.
    """
    places = np.arange(len(matching))
    ends = np.where(matching >= minimum, places + matching, 0)
    return np.maximum.accumulate(ends) > places


def _codes(text: NDArray, database: NDArray, special: Collection[int], limit: int) -> NDArray:
    """[E + 1 + D + limit] int32: the text, a gap, the database, and gaps that end every run."""
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
    """[n] suffixes, sorted as far as text and database can be told apart in `limit` tokens."""
    n = num_text + 1 + num_database
    depth, key = _first_words(codes, n, limit)
    order = np.empty(n, np.int64)
    rank = np.zeros(n + limit, np.int64)  # place of a suffix's group, from 1; 0 beyond the end
    slots, members = np.arange(n), np.arange(n)  # places still to be sorted, what lies there
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
    """As many tokens as fit into a number, and that number for each suffix [n]."""
    bits = int(codes.max()).bit_length()
    depth = min(_KEY_BITS // bits, limit)
    key = np.zeros(n, np.int64)
    for i in range(depth):
        key <<= bits
        key |= codes[i : i + n]
    return depth, key


def _common_prefix(codes: NDArray, a: NDArray, b: NDArray, limit: int) -> NDArray[np.int32]:
    """Tokens that suffixes a [n] and b [n] begin with alike, up to `limit`, compared one by one."""
    length = np.zeros(len(a), np.int32)
    alike = np.arange(len(a))
    for i in range(limit):
        alike = alike[codes[a[alike] + i] == codes[b[alike] + i]]
        if len(alike) == 0:
            break
        length[alike] = i + 1
    return length

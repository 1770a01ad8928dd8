"""Uniformly random neighbours: the control that separates the neighbours' content from reading.

A candidate is a function of the seed, the query chunk's id and the candidate's rank, independent of
batches, order and resuming. Each query has its own keyed permutation of the database: candidates
are distinct, and every rank costs the same.
"""

from __future__ import annotations

import numpy as np

from ..base import Neighbours, Queries
from .id_only_index import IdOnlyIndex

_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class RandomRetriever(IdOnlyIndex):
    """Chunks of the database in a random order for each query."""

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The first k of each query's permutation; the score is minus the rank."""
        size = len(self.chunk_ids)
        found = Neighbours.empty(len(queries.chunk_ids), k)
        count = min(k, size)
        if count:
            seed = np.array(self.config.seed, dtype=np.int64).astype(np.uint64)
            key = _mix(queries.chunk_ids.astype(np.uint64) + _mix(seed[None]))
            ranks = np.broadcast_to(np.arange(count, dtype=np.uint64), (len(key), count))
            found.ids[:, :count] = self.chunk_ids[keyed_permutation(ranks, key[:, None], size)]
            found.scores[:, :count] = -np.arange(count)
        return found


def keyed_permutation(values: np.ndarray, keys: np.ndarray, size: int) -> np.ndarray:
    """Images of values under a permutation of 0..size-1 that is determined by a key.

    A Feistel network on the smallest power of two that holds `size`, repeated for images outside
    (cycle walking; fewer than two passes on average). Source: Black and Rogaway, "Ciphers with
    arbitrary finite domains", 2002.

    Args:
        values: uint64, each below `size`.
        keys: uint64, broadcast against `values`.
        size: at least 1.
    """
    bits = max(2, (size - 1).bit_length())
    images = _feistel(values, keys, bits)
    keys = np.broadcast_to(keys, images.shape)
    while (outside := images >= size).any():
        images[outside] = _feistel(images[outside], keys[outside], bits)
    return images


def _feistel(values: np.ndarray, keys: np.ndarray, bits: int) -> np.ndarray:
    high, low = np.uint64(bits - bits // 2), np.uint64(bits // 2)
    one = np.uint64(1)
    for turn in range(_ROUNDS):
        right = values & ((one << low) - one)
        mask = _mix(keys + (right + one) * _GOLDEN + np.uint64(turn << 32))
        left = (values >> low) ^ (mask & ((one << high) - one))
        values = (right << high) | left
        high, low = low, high
    return values


def _mix(x: np.ndarray) -> np.ndarray:
    """The SplitMix64 finaliser: every input bit affects every output bit. Arrays only."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

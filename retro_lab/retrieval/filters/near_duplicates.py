"""Drops neighbours that nearly repeat the query or a better neighbour.

Similarity is the Jaccard index of two chunks' sets of n-grams; n = 5 and a threshold of 0.8 are
usual (Lee et al., "Deduplicating training data makes language models better", 2022; MassiveDS also
drops near-duplicates among its first K). Chunks of fewer than n tokens have no n-gram and
similarity 0. N-grams are compared by 56 bits or more of a hash.

Legend: Q queries, K candidates each, M tokens a chunk, G = M - n + 1 n-grams a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import NeighboursConfig
from retro_lab.text.chunks import ChunkStore

from ..base import NO_CHUNK, NO_TOKEN, text_tokens

NGRAM = 5
BLOCK_BYTES = 2**22  # hashes sorted together
_NOTHING = np.uint64(2**64 - 1)
_MULTIPLIER, _FINAL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True)
class NearDuplicates:
    """Thresholds of the near-duplicate filter.

    Attributes:
        of_query: Jaccard similarity with the query chunk from which a neighbour is dropped; None
            keeps all.
        of_better: the same for the similarity with a kept neighbour of higher rank.
        ngram: tokens of an n-gram.
    """

    of_query: float | None
    of_better: float | None
    ngram: int = NGRAM

    def of(self, chunks: ChunkStore, *, block_bytes: int = BLOCK_BYTES) -> RepeatFilter:
        """The filter over the chunks of a store.

        Args:
            block_bytes: bytes of hashes sorted at a time.
        """
        return RepeatFilter(self, chunks, block_bytes)


def near_duplicates(neighbours: NeighboursConfig) -> NearDuplicates | None:
    """The filter of a configuration; None if disabled."""
    if neighbours.max_jaccard is None and neighbours.dedup is None:
        return None
    return NearDuplicates(neighbours.max_jaccard, neighbours.dedup)


@dataclass
class RepeatFilter:
    """Marks a row's candidates to drop, and counts them.

    Attributes:
        asked: candidates tested.
        like_query: dropped near-copies of the query.
        like_better: dropped near-copies of a better neighbour.
    """

    settings: NearDuplicates
    chunks: ChunkStore
    block_bytes: int = BLOCK_BYTES
    asked: int = field(default=0, init=False)
    like_query: int = field(default=0, init=False)
    like_better: int = field(default=0, init=False)

    def __call__(
        self, query_ids: NDArray[np.integer], ids: NDArray[np.integer]
    ) -> NDArray[np.bool_]:
        """bool [Q, K], candidates to drop.

        Args:
            query_ids: [Q].
            ids: [Q, K], best first, -1 at the end of a row.
        """
        dropped = np.zeros(ids.shape, bool)
        width = (1 + ids.shape[1]) * self.chunks.chunk_size * 8
        step = max(1, self.block_bytes // width)
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            dropped[part] = self._block(query_ids[part], ids[part])
        return dropped

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of candidates tested and dropped."""
        return {
            "looked_at": self.asked,
            "like_query": self.like_query,
            "like_better": self.like_better,
        }

    def _block(self, query_ids: NDArray, ids: NDArray) -> NDArray[np.bool_]:
        settings, found = self.settings, ids != NO_CHUNK
        rows = np.concatenate([query_ids[:, None], ids], axis=1)
        alike = jaccard_within(rows, self.chunks, settings.ngram)
        dropped = ~found
        if settings.of_query is not None:
            like = (alike[:, 0, 1:] >= settings.of_query) & found
            self.like_query += int(like.sum())
            dropped |= like
        if settings.of_better is not None:
            repeats = alike[:, 1:, 1:] >= settings.of_better  # [Q, better, worse]
            for rank in range(1, ids.shape[1]):
                kept = ~dropped[:, :rank]
                like = (repeats[:, :rank, rank] & kept).any(axis=1) & ~dropped[:, rank]
                self.like_better += int(like.sum())
                dropped[:, rank] |= like
        self.asked += int(found.sum())
        return dropped & found


def jaccard_within(
    rows: NDArray[np.integer], chunks: ChunkStore, ngram: int
) -> NDArray[np.float32]:
    """[Q, 1 + K, 1 + K] Jaccard similarity of any two chunks of a row, above the diagonal; else 0.

    All hashes of a row are sorted with their owner in the lowest bits. Equal hashes become
    adjacent, so only shared n-grams cost more than the sort.

    Args:
        rows: [Q, 1 + K] chunk ids, -1 for none.
        chunks: the store.
        ngram: tokens of an n-gram.
    """
    num_rows, members = rows.shape
    ids, place = np.unique(rows, return_inverse=True)
    place = place.reshape(rows.shape)  # -1, if present, comes first in `ids`
    grams = ngram_hashes(chunks, np.maximum(ids, 0), ngram)
    grams[ids == NO_CHUNK] = _NOTHING
    sizes = (grams != _NOTHING).sum(axis=1)[place]
    bits = np.uint64((members - 1).bit_length())
    owner_mask = (np.uint64(1) << bits) - np.uint64(1)
    owners = np.arange(members, dtype=np.uint64)[:, None]
    packed = np.where(grams[place] == _NOTHING, _NOTHING, (grams[place] & ~owner_mask) | owners)
    packed = packed.reshape(num_rows, -1)
    packed.sort(axis=1)
    shared = _shared(packed, owner_mask, members)
    either = sizes[:, :, None] + sizes[:, None, :] - shared
    return (shared / np.maximum(either, 1)).astype(np.float32)


def _shared(packed: NDArray[np.uint64], owner_mask: np.uint64, members: int) -> NDArray[np.int64]:
    """[Q, members, members] number of hashes shared by a first and a later member."""
    num_rows, width = packed.shape
    counts = np.zeros(num_rows * members * members, np.int64)
    hashes = packed & ~owner_mask
    alive = packed != _NOTHING
    for lag in range(1, members):
        alive = alive[:, : width - lag] & (hashes[:, lag:] == hashes[:, : width - lag])
        alive &= packed[:, lag:] != _NOTHING
        row, column = np.nonzero(alive)
        if not len(row):
            break
        first = (packed[row, column] & owner_mask).astype(np.int64)
        second = (packed[row, column + lag] & owner_mask).astype(np.int64)
        counts += np.bincount((row * members + first) * members + second, minlength=len(counts))
    return counts.reshape(num_rows, members, members)


def ngram_hashes(chunks: ChunkStore, ids: NDArray[np.integer], ngram: int) -> NDArray[np.uint64]:
    """[n, G] hashes of the distinct n-grams of each chunk's text; the maximum for none."""
    tokens = text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)
    count = tokens.shape[1] - ngram + 1
    if count < 1:
        return np.full((len(ids), 1), _NOTHING)
    mixed = np.zeros((len(ids), count), np.uint64)
    whole = np.ones((len(ids), count), bool)
    for offset in range(ngram):
        part = tokens[:, offset : offset + count]
        whole &= part != NO_TOKEN
        mixed = (mixed + part.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    mixed *= _FINAL
    mixed ^= mixed >> np.uint64(32)
    hashes = np.where(whole, mixed >> np.uint64(1) << np.uint64(1), _NOTHING)
    hashes.sort(axis=1)
    hashes[:, 1:][hashes[:, 1:] == hashes[:, :-1]] = _NOTHING
    return hashes

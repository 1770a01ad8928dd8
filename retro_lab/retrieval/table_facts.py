"""Statistics of a neighbour table: filled slots, and candidates dropped by its filters."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import SPLITS

from .base import NO_CHUNK
from .filters.exclusion import PairFilter

LOG = logging.getLogger("retro_lab")
_COUNTED = 2**16  # rows of the table read together


class Counted:
    """A filter that counts tested and dropped candidates."""

    def __init__(self, passes: PairFilter) -> None:
        self._passes = passes
        self._asked = self._refused = 0

    def __call__(self, query_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
        kept = self._passes(query_ids, ids)
        self._asked += len(kept)
        self._refused += int((~kept).sum())
        return kept

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of candidates tested and dropped."""
        return {"asked": self._asked, "refused": self._refused}


def refused_share(counts: Mapping[str, float]) -> float | None:
    """Share of tested candidates that a `Counted` dropped; None if none were tested."""
    return counts["refused"] / counts["asked"] if counts.get("asked") else None


def dropped_shares(counts: Mapping[str, float]) -> dict[str, float | None]:
    """Shares of tested candidates that a `RepeatFilter` dropped; None if none were tested."""
    asked = int(counts.get("looked_at", 0))
    found = {
        name: counts[name] / asked if asked else None for name in ("like_query", "like_better")
    }
    words = [f"{name.replace('_', ' ')} {share or 0:.1%}" for name, share in found.items()]
    LOG.info("near-duplicates dropped of %s candidates: %s", f"{asked:,}", ", ".join(words))
    return found


def filled_shares(ids: np.ndarray, chunks: ChunkStore) -> dict[str, list[float]]:
    """For each split the share of its chunks with a first, second, ... neighbour.

    Args:
        ids: [C, K], the table.
    """
    shares = {}
    for split in SPLITS:
        rows = chunks.chunks_of(split)
        filled = np.zeros(ids.shape[1], np.int64)
        for start in range(0, len(rows), _COUNTED):
            filled += (ids[rows[start : start + _COUNTED]] != NO_CHUNK).sum(axis=0)
        if len(rows):
            shares[split] = (filled / len(rows)).tolist()
    return shares


def in_words(stats: Mapping[str, Any]) -> str:
    """The counts of `build_neighbours` in a line."""
    slots = len(next(iter(stats["filled"].values())))
    coverage = {split: stats["coverage"].get(split) for split in SPLITS}
    shares = [f"{share:.1%} of {split}" for split, share in coverage.items() if share is not None]
    words = [f"filled of {slots} a chunk: {', '.join(shares)}"]
    if stats["refused"] is not None:
        words.append(f"refused as leaky {stats['refused']:.1%}")
    if stats["recall_at_10"] is not None:
        words.append(f"recall@10 against exact search {stats['recall_at_10']:.3f}")
    return "; ".join(words)

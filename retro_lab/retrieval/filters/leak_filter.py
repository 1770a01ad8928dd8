"""Drops neighbours that repeat the text to be predicted (retrieval filtering).

Metric filtering leaves leaky chunks out of the score. Retrieval filtering leaves leaky neighbours
out of the table, in all splits, and the next candidate takes the slot. Source: MassiveDS (Shao et
al., "Scaling retrieval-based language models with a trillion-token datastore", 2024), which drops
passages with a common run of 32 words or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retro_lab.config.schema import ChunkingConfig, NeighboursConfig
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.runs import CommonRuns, pair_runs

from ..base import text_tokens
from .exclusion import PairFilter

SCORED_CHUNKS = 1  # chunks after the query's that its neighbours help to predict

TEXTS = 2**13  # neighbours compared at once: 220 MB if all texts are identical


@dataclass(frozen=True)
class LeakFilter:
    """Drops neighbours with a common run of `max_run` tokens or more with the query's text.

    The query's text is its chunk and the document's next chunk as one text, so a run across their
    border counts whole. The neighbour's text includes its continuation.

    Attributes:
        max_run: shortest run that is dropped, in tokens.
        continuation_chunks: chunks that are read with each neighbour.
    """

    max_run: int
    continuation_chunks: int

    def of(self, chunks: ChunkStore, *, at_once: int = TEXTS) -> PairFilter:
        """The filter over the chunks of a store.

        Args:
            at_once: neighbours compared at a time.
        """
        return _Passes(self, chunks, at_once)


class _Passes:
    """The filter over a store's chunks.

    Candidates are tested in rounds, and those that move up were mostly tested for another query
    before: one round's texts are kept for the next.
    """

    def __init__(self, settings: LeakFilter, chunks: ChunkStore, at_once: int) -> None:
        self._settings, self._chunks, self._at_once = settings, chunks, at_once
        nothing = np.empty(0, np.int64)
        self._kept = _Texts(settings, chunks, nothing, nothing)

    def __call__(self, query_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
        if len(ids) > self._at_once and len(_distinct(ids)) > self._at_once:
            halves = zip(np.array_split(query_ids, 2), np.array_split(ids, 2), strict=True)
            return np.concatenate([self(*half) for half in halves])
        there = self._kept.hold(query_ids, ids)
        missing = np.flatnonzero(~there)
        passes = np.zeros(len(ids), bool)
        passes[there] = self._kept.passes(query_ids[there], ids[there])
        if len(missing):
            texts = _Texts(self._settings, self._chunks, query_ids[missing], ids[missing])
            passes[missing] = texts.passes(query_ids[missing], ids[missing])
            if 2 * len(missing) > len(ids):
                self._kept = texts
        return passes


class _Texts:
    """Texts of some query chunks and some neighbours, prepared for pairwise comparison."""

    def __init__(
        self, settings: LeakFilter, chunks: ChunkStore, query_ids: np.ndarray, ids: np.ndarray
    ) -> None:
        self._queries, self._ids = _distinct(query_ids), _distinct(ids)
        self._length = settings.max_run
        self._left = _text(chunks, self._queries, SCORED_CHUNKS)
        self._right = _text(chunks, self._ids, settings.continuation_chunks)
        self._left_owner, self._right_owner = (
            chunks.identity[part] for part in (self._queries, self._ids)
        )
        owners = self._left_owner, self._right_owner
        self._runs = CommonRuns(self._left, self._right, *owners, self._length)

    def hold(self, query_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Whether both texts of each pair are prepared."""
        return np.isin(query_ids, self._queries) & np.isin(ids, self._ids)

    def passes(self, query_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Whether each prepared pair passes the filter."""
        row, column = np.searchsorted(self._queries, query_ids), np.searchsorted(self._ids, ids)
        leaks = self._runs.shared(row, column)
        own = np.flatnonzero(self._left_owner[row] == self._right_owner[column])  # never in a table
        leaks[own] = pair_runs(self._left[row[own]], self._right[column[own]]) >= self._length
        return ~leaks


def _distinct(ids: np.ndarray) -> np.ndarray:
    """Sorted distinct ids; faster than np.unique for many ids of few chunks."""
    size = ids.max(initial=-1) + 1
    if size > len(ids):
        return np.unique(ids)
    there = np.zeros(size, bool)
    there[ids] = True
    return np.flatnonzero(there)


def _text(chunks: ChunkStore, ids: np.ndarray, continuation: int) -> np.ndarray:
    return text_tokens(chunks.values(ids, continuation), chunks.pad_id, chunks.boundary_id)


def leak_filter(neighbours: NeighboursConfig, chunking: ChunkingConfig) -> LeakFilter | None:
    """The filter of a configuration; None if disabled."""
    if neighbours.max_run is None:
        return None
    return LeakFilter(neighbours.max_run, chunking.continuation_chunks)

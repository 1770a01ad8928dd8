"""Retrieval filtering: a neighbour that repeats the text to be predicted is no neighbour.

The second of two operations on leakage. Metric filtering leaves leaky chunks out of the score;
this one leaves leaky neighbours out of the table, in all splits, and the next candidate takes the
slot. Source: MassiveDS (Shao et al., "Scaling retrieval-based language models with a
trillion-token datastore", 2024), which drops passages with a common run of 32 words or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retro_lab.config.schema import ChunkingConfig, NeighboursConfig
from retro_lab.retrieval.base import text_tokens
from retro_lab.retrieval.exclusion import PairFilter
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.runs import share_run

SCORED_CHUNKS = 1  # chunks behind the query's that its neighbours help to predict

_TOKENS = 2**21  # of neighbours compared at once: 150 MB if all have all their text in common


@dataclass(frozen=True)
class LeakFilter:
    """Refuses neighbours with a common run of `max_run` tokens or more with the query's text.

    The query's text is its chunk and the next one of its document, as one text: a run across their
    border counts whole. The neighbour's is what the model would read of it, continuation included.

    Attributes:
        max_run: shortest run that is refused, in tokens.
        continuation_chunks: chunks that are read with each neighbour.
    """

    max_run: int
    continuation_chunks: int

    def of(self, chunks: ChunkStore) -> PairFilter:
        """The filter over the chunks of a store."""

        def text(ids: np.ndarray, continuation: int) -> np.ndarray:
            values = chunks.values(ids, continuation)
            return text_tokens(values, chunks.pad_id, chunks.boundary_id)

        def passes(query_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
            kept = np.zeros(len(ids), dtype=bool)
            pairs = max(1, _TOKENS // ((1 + self.continuation_chunks) * chunks.chunk_size))
            for start in range(0, len(ids), pairs):
                part = slice(start, start + pairs)
                asking, row = np.unique(query_ids[part], return_inverse=True)
                asked, column = np.unique(ids[part], return_inverse=True)
                ours = text(asking, SCORED_CHUNKS)
                theirs = text(asked, self.continuation_chunks)
                kept[part] = ~share_run(ours, theirs, row, column, self.max_run)
            return kept

        return passes


def leak_filter(neighbours: NeighboursConfig, chunking: ChunkingConfig) -> LeakFilter | None:
    """The filter of a configuration; None while it is off."""
    if neighbours.max_run is None:
        return None
    return LeakFilter(neighbours.max_run, chunking.continuation_chunks)

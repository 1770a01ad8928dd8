"""Shuffled neighbours: a run's own neighbours, dealt to chunks of other documents.

A stricter control than random neighbours: the model reads the same texts equally often, and only
their relation to the chunk is lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.text.chunks import ChunkStore

from ..table import NeighbourTable


class ShuffledTable(NeighbourTable):
    """A table in which chunk c has the neighbours of chunk `source[c]`.

    Args:
        table: the run's table.
        source: int [C], a chunk for each chunk.
    """

    def __init__(self, table: NeighbourTable, source: NDArray[np.integer]) -> None:
        super().__init__(table.ids, table.scores)
        self.source = source

    def select(
        self,
        chunk_ids: np.ndarray,
        k: int,
        banned_documents: np.ndarray,
        chunk_document: np.ndarray,
    ) -> np.ndarray:
        """As `NeighbourTable.select`, for the source chunks."""
        return super().select(self.source[chunk_ids], k, banned_documents, chunk_document)


def shuffle_neighbours(
    table: NeighbourTable, chunks: ChunkStore, split: str, seed: int
) -> ShuffledTable:
    """The table with the neighbours of one split dealt to chunks of other documents.

    Only chunks with a successor in their document take part: the others' neighbours are never read.

    Raises:
        UserError: fewer than two documents have neighbours that are read.
    """
    ids = chunks.chunks_of(split)
    document = np.asarray(chunks.document[ids])
    readers = np.flatnonzero(document[:-1] == document[1:])
    source = np.arange(chunks.num_chunks, dtype=np.int32)
    source[ids[readers]] = ids[readers][derangement(document[readers], seed)]
    return ShuffledTable(table, source)


def derangement(group: NDArray[np.integer], seed: int) -> NDArray[np.int64]:
    """Random index of a member of another group, for each member.

    Members are sorted by group and rotated by the size of the largest group, so every member lands
    in another group unless one group holds more than half of all. Members left in their group draw
    again among the others; only then is an index repeated.

    Args:
        group: [n], at least two different ones unless n is 0.

    Returns:
        int64 [n]; a permutation if one exists.

    Raises:
        UserError: all are of one group.
    """
    n = len(group)
    if n == 0:
        return np.empty(0, np.int64)
    names, kind, sizes = np.unique(group, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise UserError(
            "eval.shuffled=true: all neighbours that are read belong to one document, so there is "
            "no other document to deal them to",
            fix="evaluate a split of more documents of two chunks or more, or eval.shuffled=false",
        )
    rng = np.random.default_rng([seed, n])
    order = np.lexsort((rng.random(n), rng.permutation(len(names))[kind]))
    source = np.empty(n, np.int64)
    source[order] = np.roll(order, -int(sizes.max()))
    for place in np.flatnonzero(group[source] == group):
        source[place] = rng.choice(np.flatnonzero(group != group[place]))
    return source

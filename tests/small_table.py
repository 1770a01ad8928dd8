"""A neighbour table in memory: random training chunks, some slots empty."""

from __future__ import annotations

import numpy as np
from small_store import SmallStore

from retro_lab.retrieval.table import NeighbourTable


class SmallTable(NeighbourTable):
    """`NeighbourTable` over arrays of its own making; `slots` candidates a chunk, best first."""

    def __init__(self, store: SmallStore, slots: int = 4) -> None:
        rng = np.random.default_rng(7)
        ids = rng.choice(store.chunks_of("train"), (store.num_chunks, slots)).astype(np.int32)
        scores = -np.arange(slots, dtype=np.float32) * np.ones_like(ids, np.float32)
        missing = rng.random(ids.shape) < 0.1
        super().__init__(np.where(missing, -1, ids), np.where(missing, -np.inf, scores))

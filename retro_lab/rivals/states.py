"""The baseline's nats alone, which rivals are compared with.

Shapes: S scored chunks of a subset.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.memory.states import token_states
from retro_lab.nn import Retro
from retro_lab.store import track


def plain_nats(model: Retro, subset: Subset, batch_size: int) -> NDArray[np.float64]:
    """[S] nats of a model without retrieval on the subset's chunks."""
    data, windows = subset.windows()
    totals = np.zeros(subset.store.num_chunks)
    with track(int(subset.tokens.sum()), f"scoring {subset.split}", "tokens") as advance:
        for part in token_states(model, data, windows, batch_size):
            np.add.at(totals, part.chunk, part.nats)
            advance(len(part.nats))
    return totals[subset.rows]

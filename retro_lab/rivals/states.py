"""Nats of a language model without retrieval on a subset, which rivals are made of.

Shapes: T scored tokens of a subset in corpus order, S its scored chunks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.evaluation.compressors.outcome import chunk_sums
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.run.model import LanguageModel
from retro_lab.store import track

UNSCORED = -100


def token_nats(model: LanguageModel, subset: Subset, batch_size: int) -> NDArray[np.float64]:
    """[T] nats of a model without retrieval on the evaluation's windows."""
    data, windows = subset.windows()
    device = next(model.parameters()).device
    found = []
    with track(int(subset.tokens.sum()), f"scoring {subset.split}", "tokens") as advance:
        for start in range(0, len(windows), batch_size):
            batch = data.__getitems__(windows[start : start + batch_size].tolist())
            ids, targets, documents = (
                batch[name].to(device) for name in ("input_ids", "targets", "document_ids")
            )
            with torch.inference_mode():
                nats = model.token_nats(ids, targets, None, documents)
            # Windows follow each other in the corpus, and each scores what comes after the last.
            found.append(nats[targets != UNSCORED].double().cpu().numpy())
            advance(len(found[-1]))
    return np.concatenate(found)


def plain_nats(model: LanguageModel, subset: Subset, batch_size: int) -> NDArray[np.float64]:
    """[S] nats of a model without retrieval on the subset's chunks."""
    return chunk_sums(subset, token_nats(model, subset, batch_size))

"""The baseline's hidden state and nats for every token; kNN-LM searches these states.

Shapes: B batch, N tokens of a window, D width of the model, T scored tokens of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro_lab.data.dataset import EvaluationData
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.nn import Retro
from retro_lab.store import track

UNSCORED = -1


class TokenStates(NamedTuple):
    """States of scored tokens, document by document.

    Attributes:
        keys: float32 [T, D], normalised input of the last feed-forward block at the position that
            predicts the token (the best key of Khandelwal et al. 2020, section 5).
        tokens: int32 [T], the token to predict.
        nats: float64 [T], of the baseline alone.
        chunk: int64 [T], id of the token's chunk.
    """

    keys: NDArray[np.float32]
    tokens: NDArray[np.int32]
    nats: NDArray[np.float64]
    chunk: NDArray[np.int64]


def token_states(
    model: Retro, data: EvaluationData, windows: NDArray[np.int64], batch_size: int
) -> Iterator[TokenStates]:
    """States of all tokens scored by the windows, batch by batch."""
    device = next(model.parameters()).device
    seen: list[Tensor] = []
    last = model.blocks[-1]
    hook = last.ff.register_forward_pre_hook(  # pyright: ignore
        lambda module, inputs: seen.append(inputs[0])
    )
    try:
        for start in range(0, len(windows), batch_size):
            batch = data.__getitems__(windows[start : start + batch_size].tolist())
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.inference_mode():
                nats = model.token_nats(
                    moved["input_ids"], moved["targets"], None, moved["document_ids"]
                )
            scored = moved["target_chunks"] != UNSCORED
            yield TokenStates(
                seen.pop()[scored].float().cpu().numpy(),
                moved["targets"][scored].int().cpu().numpy(),
                nats[scored].double().cpu().numpy(),
                moved["target_chunks"][scored].cpu().numpy(),
            )
    finally:
        hook.remove()


def plain_nats(model: Retro, subset: Subset, batch_size: int) -> NDArray[np.float64]:
    """[S] nats of a model without retrieval on the subset's chunks."""
    data, windows = subset.windows()
    totals = np.zeros(subset.store.num_chunks)
    with track(int(subset.tokens.sum()), f"scoring {subset.split}", "tokens") as advance:
        for part in token_states(model, data, windows, batch_size):
            np.add.at(totals, part.chunk, part.nats)
            advance(len(part.nats))
    return totals[subset.rows]


def weights_digest(model: Retro) -> str:
    """SHA-256 over names, shapes and values of all weights."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        found.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        found.update(array.view(torch.uint8).numpy().tobytes() if array.numel() else b"")
    return found.hexdigest()

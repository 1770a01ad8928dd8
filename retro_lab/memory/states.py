"""States of a language model, one for each token that it predicts.

A state is the normalised input of the last feed-forward block at the position that predicts the
token: the best key of kNN-LM (Khandelwal et al. 2020, section 5). Of a Hugging Face model it is the
last hidden state, which its output layer reads: every architecture has it under the same name.

Shapes: B batch, N tokens of a window, D width of the model, T scored tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro_lab.data.dataset import EvaluationData
from retro_lab.nn import Retro

if TYPE_CHECKING:
    from retro_lab.huggingface import GraftedRetro

UNSCORED = -1


class TokenStates(NamedTuple):
    """States of scored tokens, document by document.

    Attributes:
        keys: float32 [T, D].
        tokens: int32 [T], the token to predict.
        nats: float64 [T], of the model alone.
        chunk: int64 [T], id of the token's chunk.
    """

    keys: NDArray[np.float32]
    tokens: NDArray[np.int32]
    nats: NDArray[np.float64]
    chunk: NDArray[np.int64]


@contextmanager
def watched_states(model: Retro | GraftedRetro) -> Iterator[list[Tensor]]:
    """A list to which each pass of a model within the context adds its states [B, N, D]."""
    seen: list[Tensor] = []
    if isinstance(model, Retro):
        hook = model.decoder_blocks()[-1].ff.register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0])
        )
    else:
        hook = model.backbone.base_model.register_forward_hook(
            lambda module, inputs, output: seen.append(output.last_hidden_state)
        )
    try:
        yield seen
    finally:
        hook.remove()


def token_states(
    model: Retro | GraftedRetro,
    data: EvaluationData,
    windows: NDArray[np.int64],
    batch_size: int,
) -> Iterator[TokenStates]:
    """States of all tokens scored by the windows, batch by batch.

    The model reads the neighbours of the windows, if these have any.
    """
    device = next(model.parameters()).device
    with watched_states(model) as seen:
        for start in range(0, len(windows), batch_size):
            batch = data.__getitems__(windows[start : start + batch_size].tolist())
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.inference_mode():
                nats = model.token_nats(
                    moved["input_ids"],
                    moved["targets"],
                    moved.get("neighbour_ids"),
                    moved["document_ids"],
                )
            scored = moved["target_chunks"] != UNSCORED
            yield TokenStates(
                seen.pop()[scored].float().cpu().numpy(),
                moved["targets"][scored].int().cpu().numpy(),
                nats[scored].double().cpu().numpy(),
                moved["target_chunks"][scored].cpu().numpy(),
            )

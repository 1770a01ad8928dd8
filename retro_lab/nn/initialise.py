"""Initialisation of all weights."""

from __future__ import annotations

import math

from torch import nn


class SelfInitialising(nn.Module):
    """A module that initialises its own weights after its matrices."""

    def start(self) -> None:
        """Initialises the weights; called after the matrices are initialised."""
        raise NotImplementedError


def initialise(model: nn.Module, num_layers: int) -> None:
    """Initialises every weight below `model`.

    | weights | initialisation |
    | --- | --- |
    | embeddings | normal, 0.02 |
    | matrices | normal, 1 / sqrt(inputs) |
    | matrices that write to the residual stream | the same / sqrt(2 * layers) |
    | CCA's output matrix, or its gate if present | zero: retrieval starts as the identity |
    | pointer | see `Pointer.start` |
    | norms, smearing | one, zero |
    | biases of relative positions | zero |

    Args:
        num_layers: decoder layers.
    """
    residual = 1 / math.sqrt(2 * max(num_layers, 1))
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear):
            scale = residual if name.endswith((".out", ".down")) else 1.0
            nn.init.normal_(module.weight, std=scale / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, SelfInitialising):
            module.start()

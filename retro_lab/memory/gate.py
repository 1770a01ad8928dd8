"""The gate: shares of the language model and of each expert, from what is known before the token.

    p(y) = w_0 p_model(y) + sum over experts e of w_e p_e(y),   w = softmax(MLP(features))

Experts without a distribution get no share, so the mixture sums to one over the vocabulary.

Legend: T tokens, E experts, I inputs of the gate, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .readings import Readings

WIDTH = 64
TRUST = 3.0
"""Logit of the language model at the start, against 0 for each expert."""
_CLIPPED = 4.0  # standard deviations


class Gate(nn.Module):
    """Log-shares of the model (first) and of E experts.

    Args:
        features: I.
        experts: E.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, experts: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        last = nn.Linear(WIDTH, experts + 1)
        self.layers = nn.Sequential(
            nn.Linear(features, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), last
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        nn.init.constant_(last.bias[:1], TRUST)

    def standardise(self, features: Tensor) -> None:
        """Sets mean and scale to those of features [T, I]."""
        self.mean.copy_(features.mean(0))
        self.scale.copy_(features.std(0).clamp_min(1e-3))

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """Log-shares [T, E + 1] from features [T, I] and present [T, E]; -inf without evidence."""
        return self.logits(features, present).log_softmax(-1)

    def logits(self, features: Tensor, present: Tensor) -> Tensor:
        """[T, E + 1], log-shares up to a constant a token."""
        inputs = ((features - self.mean) / self.scale).clamp(-_CLIPPED, _CLIPPED)
        given = F.pad(present, (1, 0), value=True)
        return self.layers(inputs).masked_fill(~given, float("-inf"))

    @torch.inference_mode()
    def log_shares(self, readings: Readings) -> Tensor:
        """[T, E + 1] in double precision, so that the mixture sums to one."""
        given = torch.from_numpy(readings.features), torch.from_numpy(readings.present)
        return self.logits(*given).double().log_softmax(-1)

    def nats(self, readings: Readings) -> NDArray[np.float64]:
        """[T], -log p of the true tokens under the mixture."""
        return mixture_nats(self.log_shares(readings), readings).numpy()


def mixture_nats(log_shares: Tensor, readings: Readings) -> Tensor:
    """[T], -log p of the true tokens, from log-shares [T, E + 1] in their precision."""
    return -log_parts(log_shares, readings).logsumexp(-1)


def finite_logs(nats: Tensor, probability: Tensor) -> Tensor:
    """[T, E + 1], log-probabilities of the true tokens, the language model's first; never infinite.

    Args:
        nats: [T], of the language model.
        probability: [T, E], of the experts.
    """
    logs = torch.cat([-nats[:, None], probability.clamp_min(1e-30).log()], dim=1)
    return logs.masked_fill(F.pad(probability == 0, (1, 0)), -1e9)


def differentiable_nats(log_shares: Tensor, logs: Tensor) -> Tensor:
    """[T], as `mixture_nats`, from log-shares [T, E + 1] and `finite_logs`; its gradients are
    finite, and masked shares add nothing.
    """
    return -(log_shares.clamp_min(-1e9) + logs).logsumexp(-1)


def log_parts(log_shares: Tensor, readings: Readings) -> Tensor:
    """[T, E + 1], log of share times probability of the true tokens, the language model's first.

    The parts of a token add up to its probability under the mixture.
    """
    experts = torch.from_numpy(readings.probability).to(log_shares.dtype).log()
    model = -torch.from_numpy(readings.nats).to(log_shares.dtype)
    return log_shares + torch.cat([model[:, None], experts], dim=1)

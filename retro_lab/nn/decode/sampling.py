"""Chooses the next token: the likeliest, or a draw among the likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """Settings of the draw.

    Attributes:
        temperature: divides the logits; 0 always takes the likeliest token.
        top_k: draws among the k likeliest tokens; 0 among all.
        top_p: after top_k, draws among the fewest likeliest tokens with this total probability
            (Holtzman et al. 2020); 1 among all.
        seed: seed of the draws.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


class Sampler:
    """Draws tokens for the rows of a batch, with a random generator for each row.

    A row's draws depend only on the seed and the row's number. Random numbers come from the CPU, so
    that they are the same on every device.

    Args:
        sampling: settings of the draw.
        batch: rows; row i draws with seed + i.
        banned: ids that are never drawn.
    """

    def __init__(self, sampling: Sampling, batch: int, banned: Sequence[int] = ()) -> None:
        self.sampling, self.banned = sampling, list(banned)
        self.generators = [torch.Generator().manual_seed(sampling.seed + i) for i in range(batch)]

    def draw(self, logits: Tensor, rows: Sequence[int]) -> list[int]:
        """A token for each row of logits [B, V]; `rows` are the rows' numbers."""
        logits = logits.double()
        logits[:, self.banned] = float("-inf")
        if self.sampling.temperature == 0:
            return logits.argmax(-1).tolist()
        shares = (logits / self.sampling.temperature).softmax(-1)
        shares, ids = shares.sort(dim=-1, descending=True, stable=True)
        if self.sampling.top_k:
            shares[:, self.sampling.top_k :] = 0
        if self.sampling.top_p < 1:
            above = shares.cumsum(-1) - shares  # total probability of likelier tokens
            total = shares.sum(-1, keepdim=True)
            shares = shares.masked_fill(above >= self.sampling.top_p * total, 0.0)
        cumulative = shares.cumsum(-1)
        numbers = [torch.rand(1, 1, generator=self.generators[row]) for row in rows]
        points = torch.cat(numbers).to(cumulative) * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, points, right=True)
        return ids.gather(1, chosen.clamp_max(ids.shape[1] - 1)).squeeze(1).tolist()

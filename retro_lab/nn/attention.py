"""Self- and cross-attention on flat rows; chunk geometry lives in `cca.py` and `encoder.py`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Rotary, Smear

RotaryTable = tuple[Tensor, Tensor]


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, L, H*P] -> [B, H, L, P]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, L, P] -> [B, L, H*P]."""
    return x.transpose(-3, -2).flatten(-2)


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions and optional smeared keys."""

    def __init__(self, width: int, num_heads: int, head_dim: int, smeared: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * num_heads * head_dim, bias=False)
        self.out = nn.Linear(num_heads * head_dim, width, bias=False)
        self.smear = Smear(num_heads) if smeared else None

    def forward(
        self,
        x: Tensor,
        rotary: RotaryTable,
        mask: Tensor | None = None,
        has_previous: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attends within each row.

        Args:
            x: [B, L, D].
            rotary: cosines and sines [L, P].
            mask: broadcastable to [B, H, L, L], True where attention is allowed.
            has_previous: [B, L], for smearing.
            causal: forbid later positions; only without `mask`.
        """
        query, key, value = (split_heads(t, self.num_heads) for t in self.qkv(x).chunk(3, dim=-1))
        if self.smear is not None:
            key = self.smear(key, has_previous)
        query, key = Rotary.rotate(query, rotary), Rotary.rotate(key, rotary)
        mixed = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
        return self.out(merge_heads(mixed))


class CrossAttention(nn.Module):
    """Multi-head attention from one row of activations to another, positions given by tables."""

    def __init__(
        self, width: int, source_width: int, num_heads: int, head_dim: int, smeared: bool
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, num_heads * head_dim, bias=False)
        self.key_value = nn.Linear(source_width, 2 * num_heads * head_dim, bias=False)
        self.out = nn.Linear(num_heads * head_dim, width, bias=False)
        self.smear = Smear(num_heads) if smeared else None

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        query_rotary: RotaryTable,
        key_rotary: RotaryTable,
        mask: Tensor | None = None,
        has_previous: Tensor | None = None,
    ) -> Tensor:
        """Attends from x [B, L, D] to source [B, S, E].

        Args:
            query_rotary: cosines and sines [L, P].
            key_rotary: cosines and sines [S, P].
            mask: broadcastable to [B, H, L, S], True where attention is allowed; every row must
                allow something.
            has_previous: [B, S], for smearing.
        """
        query = split_heads(self.query(x), self.num_heads)
        key, value = (
            split_heads(t, self.num_heads) for t in self.key_value(source).chunk(2, dim=-1)
        )
        if self.smear is not None:
            key = self.smear(key, has_previous)
        query, key = Rotary.rotate(query, query_rotary), Rotary.rotate(key, key_rotary)
        return self.out(merge_heads(F.scaled_dot_product_attention(query, key, value, mask)))

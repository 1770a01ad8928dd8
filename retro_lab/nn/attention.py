"""Self- and cross-attention on flat rows; `retro.py` and `chunks.py` handle chunks."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import PositionKind, RetroConfig
from .layers import Linear, Smear
from .positions import build_positions


def split_heads(x: Tensor, num_heads: int, parts: int = 1) -> tuple[Tensor, ...]:
    """[B, L, parts * H*P] -> one [B, H, L, P] for each part."""
    return x.unflatten(-1, (parts, num_heads, -1)).transpose(-4, -2).unbind(-3)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, L, P] -> [B, L, H*P]."""
    return x.transpose(-3, -2).flatten(-2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    causal: bool = False,
) -> Tensor:
    """softmax(q k / sqrt(P) + bias) v where `mask` allows.

    Args:
        query: [B, H, L, P].
        key, value: [B, H, S, P].
        bias: broadcastable to [B, H, L, S].
        mask: broadcastable to [B, H, L, S], True where attention is allowed.
        causal: hides later positions; a mask given too must hide them as well.
    """
    if bias is None:
        return F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal and mask is None
        )
    if causal and mask is None:
        mask = bias.new_ones(bias.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        bias = bias.masked_fill(~mask, float("-inf"))
    return F.scaled_dot_product_attention(query, key, value, bias)


class Attention(nn.Module):
    """Shared part of self- and cross-attention: smearing, positions and output.

    Args:
        config: the model's configuration.
        width: D of the result.
        heads: number H and width P.
        smeared: whether keys are mixed with the previous key, see `Smear`.
        kind: kind of positions.
        projections: linear maps to queries, keys and values, by name.
    """

    def __init__(
        self,
        config: RetroConfig,
        width: int,
        heads: tuple[int, int],
        smeared: bool,
        kind: PositionKind,
        **projections: Linear,
    ) -> None:
        super().__init__()
        for name, projection in projections.items():
            self.add_module(name, projection)
        self.num_heads, self.head_dim = heads
        self.out = Linear(self.num_heads * self.head_dim, width)
        self.smear = Smear(self.num_heads) if smeared else None
        self.positions = build_positions(kind, width, *heads, config.rotary_base)

    def read(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tables: Any,
        mask: Tensor | None,
        has_previous: Tensor | None,
        causal: bool = False,
    ) -> Tensor:
        """[B, L, D], attention of queries [B, H, L, P] over keys and values [B, H, S, P].

        Args:
            tables: tables of `positions` for the axes of queries and keys.
            mask: broadcastable to [B, H, L, S], True where attention is allowed; every row must
                allow something.
            has_previous: [B, S], for smearing.
            causal: hides later positions; `mask` must hide them as well.
        """
        key = key if self.smear is None else self.smear(key, has_previous)
        query, key, bias = self.positions(query, key, tables)
        return self.out(merge_heads(attend(query, key, value, bias, mask, causal)))


class SelfAttention(Attention):
    """Multi-head self-attention; `heads` are number H and width P."""

    qkv: Linear

    def __init__(self, config: RetroConfig, width: int, heads: tuple[int, int]) -> None:
        qkv = Linear(width, 3 * math.prod(heads))
        super().__init__(config, width, heads, config.smeared_keys, config.positions, qkv=qkv)

    def forward(
        self,
        x: Tensor,
        tables: Any,
        mask: Tensor | None = None,
        has_previous: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attention within each row of x [B, L, D]; see `read` for the other arguments."""
        query, key, value = split_heads(self.qkv(x), self.num_heads, parts=3)
        return self.read(query, key, value, tables, mask, has_previous, causal)


class CrossAttention(Attention):
    """Multi-head attention from rows of `width` to rows of `source_width`."""

    query: Linear
    key_value: Linear

    def __init__(
        self,
        config: RetroConfig,
        width: int,
        source_width: int,
        heads: tuple[int, int],
        smeared: bool,
    ) -> None:
        query = Linear(width, math.prod(heads))
        key_value = Linear(source_width, 2 * math.prod(heads))
        kind, parts = config.cross_positions, {"query": query, "key_value": key_value}
        super().__init__(config, width, heads, smeared, kind, **parts)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        tables: Any,
        mask: Tensor | None = None,
        has_previous: Tensor | None = None,
    ) -> Tensor:
        """Attention from x [B, L, D] to source [B, S, E]; see `read` for the other arguments."""
        (query,) = split_heads(self.query(x), self.num_heads)
        key, value = split_heads(self.key_value(source), self.num_heads, parts=2)
        return self.read(query, key, value, tables, mask, has_previous)


def document_mask(document_ids: Tensor) -> Tensor:
    """[B, 1, N, N], True where attention is allowed: own or earlier position, same document."""
    length = document_ids.shape[1]
    causal = document_ids.new_ones(length, length, dtype=torch.bool).tril()
    same = document_ids.unsqueeze(2) == document_ids.unsqueeze(1)
    return (same & causal).unsqueeze(1)


def has_previous(document_ids: Tensor) -> Tensor:
    """[B, N], True if the previous position belongs to the same document."""
    same = document_ids[:, 1:] == document_ids[:, :-1]
    return F.pad(same, (1, 0))  # the first position has none, even in a row of one

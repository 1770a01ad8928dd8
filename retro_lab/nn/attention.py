"""Self- and cross-attention on flat rows; chunk geometry lives in `cca.py` and `encoder.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fused
from .cache import AttentionCache
from .layers import Linear, Smear
from .positions import Positions


def split_heads(x: Tensor, num_heads: int, parts: int = 1) -> tuple[Tensor, ...]:
    """[B, L, parts * H*P] -> [B, H, L, P], one tensor a part."""
    return x.unflatten(-1, (parts, num_heads, -1)).transpose(-4, -2).unbind(-3)


def heads(
    x: Tensor,
    norm: nn.RMSNorm | None,
    linear: nn.Linear,
    num_heads: int,
    turns: Sequence[tuple[Tensor, Tensor] | None],
) -> tuple[Tensor, ...]:
    """Heads [B, H, L, P] of norm(x), one tensor for each entry of `turns`.

    Where `fused` fits they are turned by these angles, elsewhere `turns` is left to the caller.
    """
    if fused.fits(x):
        return fused.project(x, norm, linear.weight, num_heads, turns)
    return split_heads(linear(x if norm is None else norm(x)), num_heads, len(turns))


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
        causal: no later positions, which a mask must forbid as well.
    """
    if bias is None and fused.attends(query, key, value, mask):
        return fused.attend(query, key, value, mask, causal)
    if bias is None:
        return F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal and mask is None
        )
    if causal and mask is None:
        mask = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).tril()
    if mask is not None:
        bias = bias.masked_fill(~mask, float("-inf"))
    return F.scaled_dot_product_attention(query, key, value, bias)


class SelfAttention(nn.Module):
    """Multi-head self-attention with optional smeared keys."""

    def __init__(
        self, width: int, num_heads: int, head_dim: int, smeared: bool, positions: Positions
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * num_heads * head_dim)
        self.out = Linear(num_heads * head_dim, width)
        self.smear = Smear(num_heads) if smeared else None
        self.positions = positions

    def forward(
        self,
        x: Tensor,
        tables: Any,
        mask: Tensor | None = None,
        has_previous: Tensor | None = None,
        causal: bool = False,
        norm: nn.RMSNorm | None = None,
    ) -> Tensor:
        """Attends within each row.

        Args:
            x: [B, L, D].
            tables: of `positions`, for the row as queries and as keys.
            mask: broadcastable to [B, H, L, L], True where attention is allowed.
            has_previous: [B, L], for smearing.
            causal: no later positions, which `mask` must forbid as well.
            norm: of x, before anything else.
        """
        turned = self.positions.turns(tables) if self.smear is None else None
        turns = (None, None, None) if turned is None else (*turned, None)
        query, key, value = heads(x, norm, self.qkv, self.num_heads, turns)
        bias = None
        if self.smear is not None:
            key = self.smear(key, has_previous)
        if turned is None or not fused.fits(x):
            query, key, bias = self.positions(query, key, tables)
        return self.out(merge_heads(attend(query, key, value, bias, mask, causal)))

    def step(
        self, x: Tensor, cache: AttentionCache, tables: Any, mask: Tensor | None = None
    ) -> Tensor:
        """Attention of new positions x [B, L, D] to themselves and those before them.

        Args:
            cache: gains the new keys and values.
            tables: `positions.incremental` for the new positions and for all.
            mask: of `Cache.visible`.
        """
        query, key, value = split_heads(self.qkv(x), self.num_heads, parts=3)
        if self.smear is not None:
            last_key, cache.last_key = cache.last_key, key[:, :, -1:]
            key = self.smear.step(key, last_key)
        key, value = cache.append(self.positions.hold(key, tables), value)
        query, bias = self.positions.ask(query, tables)
        return self.out(merge_heads(attend(query, key, value, bias, mask)))


class CrossAttention(nn.Module):
    """Multi-head attention from one row of activations to another."""

    def __init__(
        self,
        width: int,
        source_width: int,
        num_heads: int,
        head_dim: int,
        smeared: bool,
        positions: Positions,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(width, num_heads * head_dim)
        self.key_value = Linear(source_width, 2 * num_heads * head_dim)
        self.out = Linear(num_heads * head_dim, width)
        self.smear = Smear(num_heads) if smeared else None
        self.positions = positions

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        tables: Any,
        mask: Tensor | None = None,
        has_previous: Tensor | None = None,
        norm: nn.RMSNorm | None = None,
    ) -> Tensor:
        """Attends from x [B, L, D] to source [B, S, E].

        Args:
            tables: of `positions`, for the axes of x and source.
            mask: broadcastable to [B, H, L, S], True where attention is allowed; every row must
                allow something.
            has_previous: [B, S], for smearing.
            norm: of x, before anything else.
        """
        turned = self.positions.turns(tables) if self.smear is None else None
        turn_query, turn_key = (None, None) if turned is None else turned
        (query,) = heads(x, norm, self.query, self.num_heads, (turn_query,))
        key, value = heads(source, None, self.key_value, self.num_heads, (turn_key, None))
        bias = None
        if self.smear is not None:
            key = self.smear(key, has_previous)
        if turned is None or not fused.fits(x):
            query, key, bias = self.positions(query, key, tables)
        return self.out(merge_heads(attend(query, key, value, bias, mask)))

    def hold(
        self, source: Tensor, tables: Any, has_previous: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, S, P] of source [B, S, E], to be kept for `step`.

        Args:
            tables: `positions.incremental` for the source's axis as queries.
            has_previous: [B, S], for smearing.
        """
        key, value = self._key_value(source, has_previous)
        return self.positions.hold(key, tables), value

    def step(
        self, x: Tensor, held: tuple[Tensor, Tensor], tables: Any, mask: Tensor | None
    ) -> Tensor:
        """Attends from x [B, L, D] to what `hold` returned; `tables` are for x's axis."""
        (query,) = split_heads(self.query(x), self.num_heads)
        query, bias = self.positions.ask(query, tables)
        return self.out(merge_heads(attend(query, *held, bias, mask)))

    def _key_value(self, source: Tensor, has_previous: Tensor | None) -> tuple[Tensor, Tensor]:
        key, value = split_heads(self.key_value(source), self.num_heads, parts=2)
        return key if self.smear is None else self.smear(key, has_previous), value

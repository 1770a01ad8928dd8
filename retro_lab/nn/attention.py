"""Self- and cross-attention on flat rows; chunk geometry lives in `cca.py` and `encoder.py`.

On a CPU a layer goes through `fused_attention.py` as a whole where that has what it needs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cpu import fused_attention, fused_token
from .cpu.fused_attention import Layer, Weights
from .cpu.fused_token import Past
from .cpu.native import Attention
from .decode.cache import AttentionCache, NewPlaces
from .layers import Linear, RMSNorm, Smear, drops, must_be_called
from .positions import Positions


def split_heads(x: Tensor, num_heads: int, parts: int = 1) -> tuple[Tensor, ...]:
    """[B, L, parts * H*P] -> [B, H, L, P], one tensor a part."""
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
        causal: no later positions, which a mask must forbid as well.
    """
    if bias is None:
        return F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal and mask is None
        )
    if causal and mask is None:
        mask = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).tril()
    if mask is not None:
        bias = bias.masked_fill(~mask, float("-inf"))
    return F.scaled_dot_product_attention(query, key, value, bias)


class _Attention(nn.Module):
    """What self- and cross-attention share: all but where keys and values come from."""

    def _build(
        self, width: int, num_heads: int, head_dim: int, smeared: bool, positions: Positions
    ) -> None:
        """The parts that come behind a kind's own projections, in the order of their weights."""
        self.num_heads, self.head_dim = num_heads, head_dim
        self.out = Linear(num_heads * head_dim, width)
        self.smear = Smear(num_heads) if smeared else None
        self.positions = positions

    def _weights(
        self,
        norm: RMSNorm | None,
        first: Linear,
        second: Linear | None = None,
        smear: Smear | None = None,
    ) -> Weights | None:
        """What the kernels take; None where that is not all that happens."""
        parts = [part for part in (norm, first, second, smear, self.out) if part is not None]
        if not self.positions.only_turns or must_be_called(*parts):
            return None
        return Weights(
            None if norm is None else norm.weight,
            None if smear is None else smear.share(),
            first.weight,
            None if second is None else second.weight,
            self.out.weight,
        )

    def _read(
        self,
        x: Tensor,
        source: Tensor | None,
        first: Linear,
        second: Linear | None,
        tables: Any,
        mask: Tensor | None,
        has_previous: Tensor | None,
        causal: bool = False,
        norm: RMSNorm | None = None,
        dropout: nn.Dropout | None = None,
    ) -> Tensor:
        """The update, or with `dropout` the sum of x and what that leaves of it.

        Args:
            x: [B, L, D].
            source: [B, S, E], None for x itself.
            first: to queries, and to keys and values of x itself.
            second: to keys and values of the source.
            norm: of x, before anything else.
        """
        weights = None
        if fused_attention.fits(x, self.head_dim, mask):
            weights = self._weights(norm, first, second, self.smear)
        if weights is not None:
            how = Attention(tables or (None, None), mask, causal, follows=has_previous)
            adds = dropout is not None and not drops(dropout)
            layer = Layer(self.num_heads, how, residual=adds)
            update = fused_attention.attention(x, source, weights, layer)
            return update if dropout is None or adds else x + dropout(update)
        normed = x if norm is None else norm(x)
        if source is None or second is None:
            query, key, value = split_heads(first(normed), self.num_heads, parts=3)
        else:
            (query,) = split_heads(first(normed), self.num_heads)
            key, value = split_heads(second(source), self.num_heads, parts=2)
        key = key if self.smear is None else self.smear(key, has_previous)
        query, key, bias = self.positions(query, key, tables)
        update = self.out(merge_heads(attend(query, key, value, bias, mask, causal)))
        return update if dropout is None else x + dropout(update)


class SelfAttention(_Attention):
    """Multi-head self-attention with optional smeared keys."""

    def __init__(
        self, width: int, num_heads: int, head_dim: int, smeared: bool, positions: Positions
    ) -> None:
        super().__init__()
        self.qkv = Linear(width, 3 * num_heads * head_dim)
        self._build(width, num_heads, head_dim, smeared, positions)

    def forward(
        self,
        x: Tensor,
        norm: RMSNorm,
        dropout: nn.Dropout,
        tables: Any,
        mask: Tensor | None = None,
        has_previous: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """x + dropout(attention within each row of norm(x)).

        Args:
            x: [B, L, D].
            tables: of `positions`, for the row as queries and as keys.
            mask: broadcastable to [B, H, L, L], True where attention is allowed.
            has_previous: [B, L], for smearing.
            causal: no later positions, which `mask` must forbid as well.
        """
        return self._read(
            x, None, self.qkv, None, tables, mask, has_previous, causal, norm, dropout
        )

    def step(self, x: Tensor, norm: RMSNorm, cache: AttentionCache, places: NewPlaces) -> Tensor:
        """x + attention of norm(x), new positions [B, L, D], to themselves and those before them.

        Args:
            cache: gains the new keys and values.
            places: of the positions.
        """
        tables, visible, weights = places.tables, places.visible, None
        if places.by_kernels:
            weights = self._weights(norm, self.qkv, smear=self.smear)
        if weights is not None:
            last, stop = None if self.smear is None else cache.start_keys(x), cache.length + 1
            past = Past(*cache.room(stop, x), stop, tables, visible, grows=True, last=last)
            sum_with_x = fused_token.attention(x, weights, past, residual=True)
            cache.length = stop
            return sum_with_x
        query, key, value = split_heads(self.qkv(norm(x)), self.num_heads, parts=3)
        last_key = key[:, :, -1:]
        key = key if self.smear is None else self.smear.step(key, cache.last_key)
        key, value = cache.append(self.positions.hold(key, tables), value)
        if self.smear is not None:  # a copy: a view would keep all projections
            cache.last_key = last_key.clone(memory_format=torch.contiguous_format)
        query, bias = self.positions.ask(query, tables)
        return x + self.out(merge_heads(attend(query, key, value, bias, visible)))


class CrossAttention(_Attention):
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
        self.query = Linear(width, num_heads * head_dim)
        self.key_value = Linear(source_width, 2 * num_heads * head_dim)
        self._build(width, num_heads, head_dim, smeared, positions)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        tables: Any,
        mask: Tensor | None = None,
        has_previous: Tensor | None = None,
        norm: RMSNorm | None = None,
        dropout: nn.Dropout | None = None,
    ) -> Tensor:
        """Attention from norm(x) [B, L, D] to source [B, S, E]; with `dropout` x + dropout(it).

        Args:
            tables: of `positions`, for the axes of x and source.
            mask: broadcastable to [B, H, L, S], True where attention is allowed; every row must
                allow something.
            has_previous: [B, S], for smearing.
        """
        return self._read(
            x,
            source,
            self.query,
            self.key_value,
            tables,
            mask,
            has_previous,
            norm=norm,
            dropout=dropout,
        )

    def hold(
        self, source: Tensor, tables: Any, has_previous: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, S, P] of source [B, S, E], to be kept for `step`.

        Args:
            tables: `positions.incremental` for the source's axis as queries.
            has_previous: [B, S], for smearing.
        """
        key, value = split_heads(self.key_value(source), self.num_heads, parts=2)
        key = key if self.smear is None else self.smear(key, has_previous)
        return self.positions.hold(key, tables).contiguous(), value.contiguous()

    def step(
        self, x: Tensor, held: tuple[Tensor, Tensor], mask: Tensor | None, places: NewPlaces
    ) -> Tensor:
        """Attends from x [B, L, D] to what `hold` returned, as far as the mask allows."""
        key, value = held
        weights = self._weights(None, self.query) if places.by_kernels else None
        if weights is not None:
            past = Past(key, value, key.shape[2], places.across, mask)
            return fused_token.attention(x, weights, past, residual=False)
        (query,) = split_heads(self.query(x), self.num_heads)
        query, bias = self.positions.ask(query, places.across)
        return self.out(merge_heads(attend(query, key, value, bias, mask)))

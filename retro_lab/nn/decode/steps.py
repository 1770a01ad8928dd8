"""Parts of a block for new positions only, with cached keys and values of the earlier ones."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..attention import SelfAttention, attend, merge_heads, split_heads
from ..chunks import RetrievedChunks
from ..layers import Smear, at_least_single
from ..pointer import MAX_MATCH, Copy, Pointer, matching_runs, mixture
from ..positions import Axis, Positions, RotaryPositions
from ..retro import ChunkedCrossAttention, DecoderBlock, Retro
from .cache import AttentionCache, HeldNeighbours, RotationCache


class NewPlaces(NamedTuple):
    """Positions and masks of a step's new tokens.

    Attributes:
        tables: of self-attention's positions, see `tables`.
        visible: mask from `Cache.visible`.
        across: tables of CCA's positions, if there are neighbours.
    """

    tables: Any
    visible: Tensor | None
    across: Any = None


class Steps:
    """A block's parts in evaluation mode, for new positions x [B, L, D]."""

    def attend(
        self, block: DecoderBlock, x: Tensor, cache: AttentionCache, places: NewPlaces
    ) -> Tensor:
        """`block.attend`; appends the new keys and values to the cache."""
        read = self_attention(block.attention, block.attention_norm(x), cache, places)
        return x + read

    def read(
        self, cca: ChunkedCrossAttention, x: Tensor, held: HeldNeighbours, layer: int, places: Any
    ) -> Tensor:
        """CCA's update for normalised x in one attending chunk; `layer` counts from 1."""
        attention, (key, value) = cca.attention, held.cca[layer]
        (query,) = split_heads(attention.query(x), attention.num_heads)
        query, bias = attention.positions.project_queries(query, places.across)
        return attention.out(merge_heads(attend(query, key, value, bias, held.mask)))

    def feed_forward(self, block: DecoderBlock, x: Tensor) -> Tensor:
        """x + ff(norm(x))."""
        return x + block.ff(block.ff_norm(x))


@singledispatch
def steps_for(model: Retro, x: Tensor, visible: Tensor | None) -> Steps:
    """The `Steps` for this class of model, input x [B, L, D] and mask."""
    return Steps()


def self_attention(
    attention: SelfAttention, x: Tensor, cache: AttentionCache, places: NewPlaces
) -> Tensor:
    """Attention of x [B, L, D] to itself and the cache; appends x's keys and values."""
    query, key, value = split_heads(attention.qkv(x), attention.num_heads, parts=3)
    positions, last_key = attention.positions, key[:, :, -1:]
    if attention.smear is not None:
        key = smeared(attention.smear, key, cache.last_key)
    key, value = cache.append(positions.project_keys(key, places.tables), value)
    if attention.smear is not None:  # a copy, since a view would keep all projections alive
        cache.last_key = last_key.clone(memory_format=torch.contiguous_format)
    query, bias = positions.project_queries(query, places.tables)
    return attention.out(merge_heads(attend(query, key, value, bias, places.visible)))


def smeared(smear: Smear, key: Tensor, last_key: Tensor | None) -> Tensor:
    """Smeared keys [B, H, L, P] of rows whose previous raw key is `last_key` [B, H, 1, P]."""
    if last_key is None:
        return smear(key)
    return smear(torch.cat((last_key, key), dim=2))[:, :, 1:]


def tables(
    positions: Positions, new: Axis, seen: Axis, like: Tensor, rotations: RotationCache
) -> Any:
    """Position tables for new queries and all keys; cached keys are already rotated."""
    if isinstance(positions, RotaryPositions):
        cos_sin = rotations.of(positions, new, like)
        return cos_sin, cos_sin
    return positions.tables(new, seen, like)


def held_keys(
    cca: ChunkedCrossAttention, encoded: Tensor, chunks: RetrievedChunks
) -> tuple[Tensor, Tensor]:
    """Keys and values [B, H, K*R, P] of one chunk's neighbours [B, 1, K, R, E]."""
    attention, source = cca.attention, encoded.flatten(1, 3)
    key, value = split_heads(attention.key_value(source), attention.num_heads, parts=2)
    key = key if attention.smear is None else attention.smear(key, chunks.has_previous)
    axis, positions = chunks.axis, attention.positions
    key = positions.project_keys(key, positions.tables(axis, axis, encoded))
    return key.contiguous(), value.contiguous()


def proposal(
    pointer: Pointer, hidden: Tensor, keys: Tensor, context: Tensor, chunks: RetrievedChunks
) -> Copy:
    """The pointer's copy distribution for positions of one attending chunk (U = 1).

    Args:
        hidden: [B, L, D], final states.
        keys: [B, 1, J, H*P], from `Pointer.project_keys`.
        context: [B, MAX_MATCH - 1 + L], tokens of these positions and the ones before, -1 for none.
        chunks: the one retrieving chunk.
    """
    length, matches = hidden.shape[1], None
    if pointer.match is not None:
        starts = range(MAX_MATCH - 1, -1, -1)
        here = [context[:, start : start + length].unsqueeze(1) for start in starts]
        matches = matching_runs(here, chunks.ids)
    readable = chunks.readable[..., :1].expand(-1, -1, length)
    return pointer.propose(hidden.unsqueeze(1), keys, matches, chunks.ids, readable)


def mixture_log_probs(logits: Tensor, copy: Copy) -> Tensor:
    """[B, L, V] log-probabilities of the mixture, for positions of one attending chunk (U = 1)."""
    log_lm = at_least_single(logits).log_softmax(-1)
    weights = copy.log_attention[:, 0].exp()  # [B, L, J]
    p_copy = torch.zeros_like(log_lm).scatter_add(-1, copy.next_ids.expand_as(weights), weights)
    return mixture(log_lm, copy.gate_logit[:, 0].exp().unsqueeze(-1), p_copy)

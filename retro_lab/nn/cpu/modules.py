"""Accelerated modules: the plain modules' weights, with forward passes through the kernels.

Each uses the plain module's forward if kernels are unsupported: for tensors that `fused.fits`
refuses, and for modules with hooks or a replaced forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every

from ..attention import CrossAttention, SelfAttention
from ..decode.cache import AttentionCache, HeldNeighbours
from ..decode.steps import NewPlaces, Steps, steps_for
from ..layers import FeedForward, Linear, RMSNorm, Smear
from ..positions import CosSin, Positions, RotaryPositions
from ..retro import IGNORED, Block, ChunkedCrossAttention, DecoderBlock, EncoderBlock, Retro
from . import fused, fused_attention, fused_token
from .fused_attention import Layer, Weights
from .fused_token import Past
from .native import AttentionSpec


class KernelLinear(Linear):
    """A product; for a few tokens, as in generation, on all cores."""

    def forward(self, x: Tensor) -> Tensor:
        return fused_token.gemv(x, self.weight) if fused_token.fits(x) else super().forward(x)


class KernelNorm(RMSNorm):
    """A norm in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        return fused.rms_norm(x, self.weight) if fused.fits(x) else super().forward(x)


class KernelRotary(RotaryPositions):
    """A rotation in one pass, if no gradient is needed."""

    def project_queries(self, query: Tensor, tables: Any) -> tuple[Tensor, Tensor | None]:
        rotated = _rotated(query, tables[0])
        return super().project_queries(query, tables) if rotated is None else (rotated, None)

    def project_keys(self, key: Tensor, tables: Any) -> Tensor:
        rotated = _rotated(key, tables[1])
        return super().project_keys(key, tables) if rotated is None else rotated


def _rotated(x: Tensor, cos_sin: CosSin) -> Tensor | None:
    if torch.is_grad_enabled() or cos_sin[0].dim() != 2 or x.dim() != 4 or not fused.fits(x):
        return None
    cos, sin = (wave.to(x.dtype) for wave in cos_sin)
    return fused.rotated(x, (cos, sin))


class KernelCrossAttention(CrossAttention):
    """Projections and attention in one operation."""

    def forward(self, x: Tensor, source: Tensor, tables: Any, *masks: Any) -> Tensor:
        update = attention(self, None, x, source, tables, *masks)
        return super().forward(x, source, tables, *masks) if update is None else update


class KernelBlock(Block):
    """A block whose attention and feed-forward include the norm before and the residual sum."""

    def residual(self, x: Tensor, norm: RMSNorm, part: nn.Module, *args: Any) -> Tensor:
        drops = self.dropout.training and self.dropout.p > 0
        if type(part) is FeedForward and not drops and fused.fits(x) and can_fuse(norm, part):
            return fused.feed_forward(x, norm.weight, part.up.weight, part.down.weight)
        update = None
        if type(part) is SelfAttention:
            update = attention(part, norm, x, None, *args, residual=not drops)
        elif type(part) is KernelCrossAttention:
            update = attention(part, norm, x, *args, residual=not drops)
        if update is None:
            return super().residual(x, norm, part, *args)
        return x + self.dropout(update) if drops else update


class KernelEncoderBlock(KernelBlock, EncoderBlock):
    """See `KernelBlock`."""


class KernelDecoderBlock(KernelBlock, DecoderBlock):
    """See `KernelBlock`."""


class KernelRetro(Retro):
    """A model whose logits and cross-entropy are kernels."""

    def logits(self, hidden: Tensor) -> Tensor:
        if fused_token.fits(hidden):
            return fused_token.gemv(hidden, self.embedding.weight)
        return super().logits(hidden)

    def cross_entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if fused.fits(hidden):
            return fused.linear_cross_entropy(hidden, self.embedding.weight, targets, IGNORED)
        return super().cross_entropy(hidden, targets)


class TokenSteps(Steps):
    """One token a row: one kernel for each part of a block."""

    def attend(
        self, block: DecoderBlock, x: Tensor, cache: AttentionCache, places: NewPlaces
    ) -> Tensor:
        part = block.attention
        weights = weights_of(part, block.attention_norm, part.qkv, smear=part.smear)
        if weights is None:
            return super().attend(block, x, cache, places)
        last, stop = None if part.smear is None else cache.start_keys(x), cache.length + 1
        cos_sin = None if places.tables is None else places.tables[0]
        past = Past(*cache.room(stop, x), stop, cos_sin, places.visible, grows=True, last=last)
        sum_with_x = fused_token.attention(x, weights, past, residual=True)
        cache.length = stop
        return sum_with_x

    def read(
        self, cca: ChunkedCrossAttention, x: Tensor, held: HeldNeighbours, layer: int, places: Any
    ) -> Tensor:
        weights = weights_of(cca.attention, None, cca.attention.query)
        if weights is None:
            return super().read(cca, x, held, layer, places)
        (key, value), across = held.cca[layer], places.across
        cos_sin = None if across is None else across[0]
        past = Past(key, value, key.shape[2], cos_sin, held.mask)
        return fused_token.attention(x, weights, past, residual=False)

    def feed_forward(self, block: DecoderBlock, x: Tensor) -> Tensor:
        norm, ff = block.ff_norm, block.ff
        if not can_fuse(norm, ff):
            return super().feed_forward(block, x)
        return fused_token.feed_forward(x, norm.weight, ff.up.weight, ff.down.weight)


@steps_for.register
def _(model: KernelRetro, x: Tensor, visible: Tensor | None) -> Steps:
    by_kernels = fused_token.is_token(x, model.config.head_dim, visible)
    return TokenSteps() if by_kernels else Steps()


def attention(
    part: SelfAttention | CrossAttention,
    norm: RMSNorm | None,
    x: Tensor,
    source: Tensor | None,
    tables: Any,
    mask: Tensor | None = None,
    has_previous: Tensor | None = None,
    causal: bool = False,
    residual: bool = False,
) -> Tensor | None:
    """Attention of `part` for norm(x), plus x if residual; None if kernels are unsupported."""
    if not fused_attention.fits(x, part.head_dim, mask):
        return None
    if isinstance(part, SelfAttention):
        weights = weights_of(part, norm, part.qkv, smear=part.smear)
    else:
        weights = weights_of(part, norm, part.query, part.key_value, part.smear)
    if weights is None:
        return None
    how = AttentionSpec(tables or (None, None), mask, causal, follows=has_previous)
    return fused_attention.attention(x, source, weights, Layer(part.num_heads, how, residual))


def weights_of(
    part: SelfAttention | CrossAttention,
    norm: RMSNorm | None,
    first: Linear,
    second: Linear | None = None,
    smear: Smear | None = None,
) -> Weights | None:
    """The layer's weights; None if the kernels can't replace one of its modules."""
    modules = (part, part.positions, norm, first, second, smear, part.out)
    if needs_plain_forward(*(module for module in modules if module is not None)):
        return None
    return Weights(
        None if norm is None else norm.weight,
        None if smear is None else smear.share(),
        first.weight,
        None if second is None else second.weight,
        part.out.weight,
    )


def can_fuse(norm: RMSNorm, ff: FeedForward) -> bool:
    """Whether the kernels compute this norm and feed-forward."""
    return type(ff) is FeedForward and not needs_plain_forward(norm, ff, ff.up, ff.down)


def needs_plain_forward(*modules: nn.Module) -> bool:
    """Whether any module has hooks, a replaced forward pass or a class without a kernel."""
    return bool(
        every._global_forward_pre_hooks
        or every._global_forward_hooks
        or every._global_backward_pre_hooks
        or every._global_backward_hooks
    ) or any(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
        or "forward" in module.__dict__
        or type(module) not in _KNOWN
        for module in modules
    )


# Classes whose forward pass depends on their weights alone, as in the kernels.
_KNOWN = frozenset({
    KernelLinear,
    KernelNorm,
    KernelRotary,
    KernelCrossAttention,
    SelfAttention,
    FeedForward,
    Smear,
    Positions,
})  # fmt: skip

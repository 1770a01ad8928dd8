"""A fused attention layer on a CPU, with gradients: norm, projections, attention, output, sum.

Sequences are processed in blocks. The backward pass keeps the raw projections: keys are smeared,
and queries and keys rotated, whenever they are read. `fused.fits` decides when kernels are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from ..layers import EPSILON
from . import fused, native


class Weights(NamedTuple):
    """Parameters of a layer, or their gradients.

    Attributes:
        gain: [D], gain of the norm of x; None without a norm.
        share: [H], share of the previous key in each key, see `Smear`; None without smearing.
        first: [3*H*P, D] to queries, keys and values; with a source, [H*P, D] to queries.
        second: [2*H*P, E] to keys and values of a source, else None.
        out: [D, H*P].
    """

    gain: Tensor | None
    share: Tensor | None
    first: Tensor
    second: Tensor | None
    out: Tensor


@dataclass(frozen=True)
class Layer:
    """Settings of a layer besides its weights.

    Attributes:
        num_heads: H.
        how: settings of the attention; the share is among the weights.
        residual: whether x is added.
    """

    num_heads: int
    how: native.AttentionSpec
    residual: bool = False

    def of(self, rows: slice, share: Tensor | None) -> native.AttentionSpec:
        """Attention settings for a block of sequences."""
        mask, follows = self.how.mask, self.how.follows
        return replace(
            self.how,
            mask=mask[rows] if mask is not None and len(mask) > 1 else mask,
            share=share,
            follows=None if follows is None else follows[rows],
        )

    def parts(self, first: Tensor, second: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, L, H, P], keys and values [B, S, H, P], as views of `_Kept`."""
        if second is None:
            query, key, value = first.chunk(3, dim=-1)
        else:
            query, (key, value) = first, second.chunk(2, dim=-1)
        return self.heads(query), self.heads(key), self.heads(value)

    def heads(self, x: Tensor) -> Tensor:
        """[B, L, H*P] -> [B, L, H, P], a view."""
        return x.unflatten(-1, (self.num_heads, -1))


def fits(x: Tensor, head_dim: int, mask: Tensor | None) -> bool:
    """Whether the kernels support x, heads of this width and this mask."""
    return fused.fits(x) and native.can_attend(head_dim, mask, x.dtype)


def attention(x: Tensor, source: Tensor | None, weights: Weights, layer: Layer) -> Tensor:
    """Attention from norm(x) [B, L, D] to source [B, S, E], or to norm(x) itself if None.

    `Layer.residual` adds x; see `Weights` for the products.
    """
    x, source = x.contiguous(), None if source is None else source.contiguous()
    return _Attention.apply(x, source, layer, torch.is_grad_enabled(), *weights)  # pyright: ignore


class _Kept(NamedTuple):
    """Saved for the backward pass, for a block of sequences.

    Attributes:
        first: [B, L, 3*H*P] or [B, L, H*P], product of norm(x) with `Weights.first`.
        second: [B, S, 2*H*P], product of the source with `Weights.second`; None without a source.
        read: [B, L, H*P], output of the attention.
        log_sum: [B, H, L], logarithms of the softmax sums.
    """

    first: Tensor
    second: Tensor | None
    read: Tensor
    log_sum: Tensor


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, source: Tensor | None, layer: Layer, keep: bool, *parameters: Tensor
    ) -> Tensor:
        weights, out, kept = Weights(*parameters), torch.empty_like(x), []
        to_first, to_second, to_out = _packed(None if w is None else w.t() for w in weights[2:])
        for rows in _sequences(x, source):
            first = _product(_normed(x[rows], weights.gain), to_first)
            second = None if source is None else _product(source[rows], to_second)
            some = _attend(first, second, layer, layer.of(rows, weights.share))
            beside = _flat(x[rows]) if layer.residual else None
            native.multiply(_flat(some.read), to_out, out=_flat(out[rows]), beside=beside)
            kept += some if keep else ()
        ctx.save_for_backward(x, source, *weights, *kept)
        ctx.layer = layer
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        (x, source, *saved), layer, grad = ctx.saved_tensors, ctx.layer, grad.contiguous()
        weights, kept = Weights(*saved[:5]), iter(saved[5:])
        grads = _zeros(weights, ctx.needs_input_grad[4:])
        of_first, of_second, of_out = _packed(weights[2:])
        of_x, of_source = torch.empty_like(x), None if source is None else torch.empty_like(source)
        for rows in _sequences(x, source):
            some, summed = _Kept(*(next(kept) for _ in _Kept._fields)), _flat(grad[rows])
            _add_product(grads.out, summed, some.read)
            of_read = native.multiply(summed, of_out)
            how = layer.of(rows, weights.share)
            first, second, of_share = _attend_backward(some, of_read, layer, how)
            if grads.share is not None and of_share is not None:
                grads.share.add_(of_share)
            _add_product(grads.first, first, _normed(x[rows], weights.gain))
            of_normed, beside = _product(first, of_first), summed if layer.residual else None
            _through_norm(x[rows], weights.gain, of_normed, grads.gain, beside, of_x[rows])
            if source is not None and of_source is not None and second is not None:
                _add_product(grads.second, second, source[rows])
                native.multiply(_flat(second), of_second, out=_flat(of_source[rows]))
        return of_x, of_source, None, None, *grads


def _packed(matrices: Iterable[Tensor | None]) -> list[Any]:
    return [None if matrix is None else native.pack(matrix) for matrix in matrices]


def _zeros(weights: Weights, wanted: Iterable[bool]) -> Weights:
    """Accumulators for gradients; None if not needed, except the gain's."""
    first, *others = (
        torch.zeros_like(weight) if want and weight is not None else None
        for weight, want in zip(weights, wanted, strict=True)
    )
    if first is None and weights.gain is not None:
        first = torch.zeros_like(weights.gain)
    return Weights(first, *others)  # pyright: ignore


def _product(x: Tensor, packed: native.Packed) -> Tensor:
    """[B, L, D] -> [B, L, V]."""
    return native.multiply(_flat(x), packed).unflatten(0, x.shape[:2])


def _through_norm(
    x: Tensor,
    gain: Tensor | None,
    of_normed: Tensor,
    of_gain: Tensor | None,
    beside: Tensor | None,
    of_x: Tensor,
) -> None:
    """Writes the gradient for x, plus `beside` if any, to `of_x`, and adds to the gain's."""
    if gain is None or of_gain is None:
        of_x.copy_(of_normed)
    else:
        native.rms_norm_backward(x, gain, EPSILON, of_normed, of_gain, beside, out=of_x)


def _attend(first: Tensor, second: Tensor | None, layer: Layer, how: native.AttentionSpec) -> _Kept:
    """Attention over the projections."""
    parts = layer.parts(first, second)
    read = first.new_empty(parts[0].shape)
    log_sum = first.new_empty(len(first), layer.num_heads, first.shape[1])
    native.attend(parts, how, read, log_sum)
    return _Kept(first, second, read.flatten(2), log_sum)


def _attend_backward(
    kept: _Kept, grad: Tensor, layer: Layer, how: native.AttentionSpec
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of the projections and of the share, from the attention output's gradient."""
    first = torch.empty_like(kept.first)
    second = None if kept.second is None else torch.empty_like(kept.second)
    parts, grads = layer.parts(kept.first, kept.second), layer.parts(first, second)
    read = layer.heads(kept.read)
    of_share = native.attend_backward(parts, how, read, kept.log_sum, grad, grads)
    return first, second, of_share


def _sequences(x: Tensor, source: Tensor | None) -> Iterator[slice]:
    """Blocks of sequences with about `fused.ROWS` tokens."""
    longest = max(x.shape[1], 0 if source is None else source.shape[1])
    return fused.blocks(len(x), max(1, fused.ROWS // max(1, longest)))


def _flat(x: Tensor) -> Tensor:
    """[B, L, D] -> [T, D], a view; [T, D] stays."""
    return x.flatten(0, -2)


def _normed(x: Tensor, gain: Tensor | None) -> Tensor:
    return x if gain is None else native.rms_norm(x, gain, EPSILON)


def _add_product(to: Tensor | None, grad: Tensor, x: Tensor) -> None:
    """Adds the gradient of a weight: `grad` [B, L, V] of its product with x [B, L, D]."""
    if to is not None:
        to.addmm_(_flat(grad).t(), _flat(x))

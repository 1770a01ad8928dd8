"""Fused CPU operations with backward passes, applied to blocks of rows.

PyTorch computes a normalisation, a product, a rotation and a GELU in a dozen passes over all
tokens, each into newly allocated memory, most of it kept for the backward pass: a third of a step
on a CPU. Here the kernels of `native.py` take a block of rows through all of them, and only results
that are costly to recompute are kept. Gradients of weights use PyTorch's products. Results equal
those of the plain operations, which are used on other devices, in other precisions, under
`torch.compile`, and without a C compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from ..layers import EPSILON
from ..positions import CosSin
from . import native
from .compiled import library

ROWS = 4096  # tokens in a block
LOGIT_ROWS = 512  # the same for rows of logits


def fits(x: Tensor) -> bool:
    """Whether the kernels support x: a plain tensor on a CPU, in single or double precision.

    Under compilation, tracing, fake tensors and autocast, PyTorch's operations are used.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and type(x) in (Tensor, nn.Parameter)
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        and not torch.is_autocast_enabled("cpu")
        and library(x.dtype) is not None
    )


def rotated(x: Tensor, cos_sin: CosSin) -> Tensor:
    """x [B, H, L, P], rotated by cosines and sines [L, P], laid out as [B, L, H, P]."""
    num_heads, rows = x.shape[1], x.transpose(1, 2).clone(memory_format=torch.contiguous_format)
    native.rotate(rows.flatten(0, 1).flatten(1), num_heads, cos_sin)
    return rows.transpose(1, 2)


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """x / rms(x) * gain for x [.., D]."""
    if not torch.is_grad_enabled():
        return native.rms_norm(x, gain, EPSILON)
    return _Norm.apply(x.contiguous(), gain)  # pyright: ignore


def feed_forward(x: Tensor, gain: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x + gelu(norm(x) up) down for x [.., D]; `gain` is the norm's."""
    flat, keep = x.contiguous().flatten(0, -2), torch.is_grad_enabled()
    return _FeedForward.apply(flat, gain, up, down, keep).view_as(x)  # pyright: ignore


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Cross-entropy [T] in nats of targets [T] under softmax(x W) for x [T, D], W [V, D].

    Only the gradient of the logits is kept for the backward pass.

    Args:
        ignored: target value of unscored positions.

    Raises:
        IndexError: any other target outside the vocabulary.
    """
    targets, unscored = targets.long(), targets == ignored
    if not (unscored | ((targets >= 0) & (targets < len(weight)))).all():
        raise IndexError(f"targets must be {ignored} or from 0 to {len(weight) - 1}")
    targets = targets.masked_fill(unscored, -1)
    keep = torch.is_grad_enabled()
    return _LinearCrossEntropy.apply(x, weight, targets, keep)  # pyright: ignore


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(x, gain)
        return native.rms_norm(x, gain, EPSILON)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, gain = ctx.saved_tensors
        grad_gain = torch.zeros_like(gain)
        grad_x = native.rms_norm_backward(x, gain, EPSILON, grad.contiguous(), grad_gain, None)
        return grad_x, grad_gain


class _FeedForward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, up: Tensor, down: Tensor, keep: bool) -> Tensor:
        out, inner = torch.empty_like(x), []
        to_inner, to_out = native.pack(up.t()), native.pack(down.t())
        for rows in blocks(len(x), ROWS):
            before = native.multiply(native.rms_norm(x[rows], gain, EPSILON), to_inner)
            native.multiply(native.gelu(before), to_out, out=out[rows], beside=x[rows])
            if keep:
                inner.append(before)
        ctx.save_for_backward(x, gain, up, down, *inner)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, gain, up, down, *inner = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x, grad_gain = torch.empty_like(x), torch.zeros_like(gain)
        grad_up = torch.zeros_like(up) if ctx.needs_input_grad[2] else None
        grad_down = torch.zeros_like(down) if ctx.needs_input_grad[3] else None
        to_inner, to_normed = native.pack(down), native.pack(up)
        for rows, before in zip(blocks(len(x), ROWS), inner, strict=True):
            some = grad[rows]
            of_inner = native.multiply(some, to_inner)
            after = native.gelu_backward(before, of_inner)
            if grad_down is not None:
                grad_down.addmm_(some.t(), after)
            if grad_up is not None:
                grad_up.addmm_(of_inner.t(), native.rms_norm(x[rows], gain, EPSILON))
            of_normed = native.multiply(of_inner, to_normed)
            native.rms_norm_backward(
                x[rows], gain, EPSILON, of_normed, grad_gain, some, out=grad_x[rows]
            )
        return grad_x, grad_gain, grad_up, grad_down, None


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, keep: bool) -> Tensor:
        nats, kept, to_logits = x.new_empty(len(x)), [], native.pack(weight.t())
        for rows in blocks(len(x), LOGIT_ROWS):
            logits = native.multiply(x[rows], to_logits)
            nats[rows] = native.cross_entropy(logits, targets[rows])
            if keep:
                kept.append(logits)
        ctx.save_for_backward(x, weight, *kept)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, weight, *kept = ctx.saved_tensors
        grad, to_hidden = grad.unsqueeze(-1), native.pack(weight)
        grad_x = torch.empty_like(x)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for rows, of_logits in zip(blocks(len(x), LOGIT_ROWS), kept, strict=True):
            torch.mul(native.multiply(of_logits, to_hidden), grad[rows], out=grad_x[rows])
            if grad_weight is not None:
                grad_weight.addmm_(of_logits.t(), x[rows] * grad[rows])
        return grad_x, grad_weight, None, None


def blocks(length: int, size: int) -> Iterator[slice]:
    """0 to `length` in slices of at most `size`."""
    return (slice(start, start + size) for start in range(0, length, size))

"""Arithmetic of the CPU: passes over blocks of rows between products, with backward passes.

PyTorch runs a normalisation, a product, a rotation and a GELU as a dozen passes over all tokens,
each into memory that is fetched anew from the system and most of it kept for the backward pass. On
a CPU that costs a third of a step. Here some rows at a time go through all of it, by kernels of
`native.py` between PyTorch's products, and only what cannot be had again for a pass over them is
kept. The results are those of the plain operations, which serve on every other device, in other
precisions, under `torch.compile`, and where there is no C compiler.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from . import native

ROWS = 1024  # tokens at a time, whose inner activations are a few megabytes
LOGIT_ROWS = 512  # the same for rows as wide as a vocabulary
FEW_ROWS = 8  # that are multiplied with weights as these come from memory

Turns = tuple[Tensor, Tensor]


def fits(x: Tensor) -> bool:
    """Whether this module is the fast way for x: numbers in memory, and nobody who traces them."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and type(x) in (Tensor, nn.Parameter)
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        and not torch.is_autocast_enabled("cpu")
        and native.library(x.dtype) is not None
    )


def fits_few(x: Tensor) -> bool:
    """Whether `few_rows` is the fast way for x, with nothing to remember for a backward pass."""
    return not torch.is_grad_enabled() and x.numel() <= FEW_ROWS * x.shape[-1] and fits(x)


def few_rows(x: Tensor, weight: Tensor) -> Tensor:
    """x W for x [.., D], W [V, D]."""
    return native.few_rows(x, weight)


def project(
    x: Tensor,
    norm: nn.RMSNorm | None,
    weight: Tensor,
    num_heads: int,
    turns: Sequence[Turns | None],
) -> tuple[Tensor, ...]:
    """Heads of norm(x) W, one tensor for each entry of `turns`, turned by its angles if any.

    Args:
        x: [B, L, D].
        weight: [parts * H * P, D].
        turns: cosines and sines [L, P] of each part, see `positions.rotate`.

    Returns:
        [B, H, L, P] each.
    """
    gain, eps = (None, 0.0) if norm is None else (norm.weight, norm.eps or 0.0)
    flat = x.contiguous().flatten(0, 1)
    parts = _Project.apply(flat, gain, weight, eps, num_heads, turns)
    return tuple(_heads(part.unflatten(0, x.shape[:2]), num_heads) for part in parts)  # pyright: ignore


def turned(x: Tensor, turns: Turns) -> Tensor:
    """x [B, H, L, P], turned by cosines and sines [L, P]."""
    return _Turned.apply(x, turns) if torch.is_grad_enabled() else _turned(x, turns)  # pyright: ignore


def attends(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether `attend` is the fast way: for more than one query, of heads that fit it."""
    return query.shape[-2] > 1 and fits(query) and native.can_attend(query, key, value, mask)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """softmax(q k / sqrt(P)) v where mask and `causal` allow, see `native.attend`."""
    return _Attend.apply(query, key, value, mask, causal)  # pyright: ignore


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / rms(x) * gain for x [.., D]."""
    if not torch.is_grad_enabled():
        return native.rms_norm(x, gain, eps)
    return _Norm.apply(x.contiguous(), gain, eps)  # pyright: ignore


def feed_forward(x: Tensor, norm: nn.RMSNorm, up: Tensor, down: Tensor) -> Tensor:
    """x + gelu(norm(x) up) down for x [.., D]."""
    flat = x.contiguous().flatten(0, -2)
    keep, eps = torch.is_grad_enabled(), norm.eps or 0.0
    return _FeedForward.apply(flat, norm.weight, up, down, eps, keep).view_as(x)  # pyright: ignore


def linear_nats(x: Tensor, weight: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Cross-entropy [T] in nats of targets [T] under softmax(x W) for x [T, D], W [V, D].

    Only the gradient of the logits is kept for the backward pass.

    Args:
        ignored: the target where nothing is scored.

    Raises:
        IndexError: for any other target outside of the vocabulary.
    """
    targets, unscored = targets.long(), targets == ignored
    if not (unscored | ((targets >= 0) & (targets < len(weight)))).all():
        raise IndexError(f"targets must be {ignored} or from 0 to {len(weight) - 1}")
    targets = targets.masked_fill(unscored, -1)
    keep = torch.is_grad_enabled()
    return _LinearNats.apply(x, weight, targets, keep)  # pyright: ignore


class _Project(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | None,
        weight: Tensor,
        eps: float,
        num_heads: int,
        turns: Sequence[Turns | None],
    ) -> tuple[Tensor, ...]:
        out, transposed = x.new_empty(len(x), len(weight)), weight.t().contiguous()
        for rows in _blocks(len(x), ROWS):
            normed = x[rows] if gain is None else native.rms_norm(x[rows], gain, eps)
            torch.mm(normed, transposed, out=out[rows])
            _turn(out[rows], num_heads, turns, rows.start)
        ctx.save_for_backward(x, gain, weight)
        ctx.eps, ctx.num_heads, ctx.turns = eps, num_heads, turns
        return out.chunk(len(turns), dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, gain, weight = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        grad_gain = None if gain is None else torch.zeros_like(gain)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[2] else None
        for rows in _blocks(len(x), ROWS):
            grad = x.new_empty(len(x[rows]), len(weight))
            for part, of_part in zip(grad.chunk(len(grads), dim=-1), grads, strict=True):
                part.zero_() if of_part is None else part.copy_(of_part[rows])
            _turn(grad, ctx.num_heads, ctx.turns, rows.start, back=True)
            if grad_weight is not None:
                normed = x[rows] if gain is None else native.rms_norm(x[rows], gain, ctx.eps)
                grad_weight.addmm_(grad.t(), normed)
            if gain is None or grad_gain is None:
                torch.mm(grad, weight, out=grad_x[rows])
            else:
                native.rms_norm_backward(
                    x[rows], gain, ctx.eps, grad @ weight, grad_gain, None, out=grad_x[rows]
                )
        return grad_x, grad_gain, grad_weight, None, None, None


class _Turned(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Turns) -> Tensor:
        ctx.turns = turns
        return _turned(x, turns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        return _turned(grad, ctx.turns, back=True), None


class _Attend(Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
    ) -> Tensor:
        out, log_sum = native.attend(query, key, value, mask, causal)
        ctx.save_for_backward(query, key, value, mask, out, log_sum)
        ctx.causal = causal
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        query, key, value, mask, out, log_sum = ctx.saved_tensors
        grads = native.attend_backward(query, key, value, mask, ctx.causal, out, log_sum, grad)
        return *grads, None, None


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, gain)
        ctx.eps = eps
        return native.rms_norm(x, gain, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, gain = ctx.saved_tensors
        grad_gain = torch.zeros_like(gain)
        grad_x = native.rms_norm_backward(x, gain, ctx.eps, grad.contiguous(), grad_gain, None)
        return grad_x, grad_gain, None


class _FeedForward(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, up: Tensor, down: Tensor, eps: float, keep: bool
    ) -> Tensor:
        out, inner = torch.empty_like(x), []
        up_transposed, down_transposed = up.t().contiguous(), down.t().contiguous()
        for rows in _blocks(len(x), ROWS):
            inner.append(native.rms_norm(x[rows], gain, eps) @ up_transposed)
            torch.addmm(x[rows], native.gelu(inner[-1]), down_transposed, out=out[rows])
            if not keep:
                inner.pop()
        ctx.save_for_backward(x, gain, up, down, *inner)
        ctx.eps = eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, gain, up, down, *inner = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x, grad_gain = torch.empty_like(x), torch.zeros_like(gain)
        grad_up = torch.zeros_like(up) if ctx.needs_input_grad[2] else None
        grad_down = torch.zeros_like(down) if ctx.needs_input_grad[3] else None
        for rows, before in zip(_blocks(len(x), ROWS), inner, strict=True):
            some, of_inner = grad[rows], grad[rows] @ down
            after = native.gelu_backward(before, of_inner)
            if grad_down is not None:
                grad_down.addmm_(some.t(), after)
            if grad_up is not None:
                grad_up.addmm_(of_inner.t(), native.rms_norm(x[rows], gain, ctx.eps))
            native.rms_norm_backward(
                x[rows], gain, ctx.eps, of_inner @ up, grad_gain, some, out=grad_x[rows]
            )
        return grad_x, grad_gain, grad_up, grad_down, None, None


class _LinearNats(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, keep: bool) -> Tensor:
        nats, kept = x.new_empty(len(x)), []
        transposed = weight.t().contiguous()
        for rows in _blocks(len(x), LOGIT_ROWS):
            logits = x[rows] @ transposed
            nats[rows] = native.surprise(logits, targets[rows])
            if keep:
                kept.append(logits)
        ctx.save_for_backward(x, weight, *kept)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, weight, *kept = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        grad_x = torch.empty_like(x)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for rows, surprise in zip(_blocks(len(x), LOGIT_ROWS), kept, strict=True):
            torch.mul(surprise @ weight, grad[rows], out=grad_x[rows])
            if grad_weight is not None:
                grad_weight.addmm_(surprise.t(), x[rows] * grad[rows])
        return grad_x, grad_weight, None, None


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, L, H*P] -> [B, H, L, P], a view."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _turn(
    x: Tensor, num_heads: int, turns: Sequence[Turns | None], first: int, back: bool = False
) -> None:
    """Turns the parts of x [T, parts * H * P], whose rows begin with token `first`, in place."""
    for part, angles in zip(x.chunk(len(turns), dim=-1), turns, strict=True):
        if angles is not None:
            native.turn(part, num_heads, angles, first, back)


def _turned(x: Tensor, turns: Turns, back: bool = False) -> Tensor:
    """A turned copy of x [B, H, L, P], laid out as [B, L, H, P]."""
    num_heads, rows = x.shape[1], x.transpose(1, 2).clone(memory_format=torch.contiguous_format)
    native.turn(rows.flatten(0, 1).flatten(1), num_heads, turns, 0, back)
    return rows.transpose(1, 2)

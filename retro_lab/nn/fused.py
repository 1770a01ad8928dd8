"""Arithmetic of the CPU, row block by row block, with backward passes written out.

PyTorch runs a normalisation, a product, a rotation and a GELU as a dozen passes over all tokens,
each into memory that is fetched anew from the system and most of it kept for the backward pass. On
a CPU that costs a third of a step. Here a few rows at a time go through all of it while they lie
in the cache, and only what cannot be had again for a pass over them is kept. The results are those
of the plain operations, which serve on every other device and under `torch.compile`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

ROWS = 1024  # tokens at a time: their activations fit the second-level cache of a core
LOGIT_ROWS = 256  # the same for rows as wide as a vocabulary
GELU_ROWS = 128  # the same for the passes of a GELU over rows of the inner width
FEW_ROWS = 8
GELU_WIDTH = 2 * math.sqrt(2 / math.pi)


def _by_onednn() -> bool:
    """Whether products are oneDNN's and not MKL's, which is fast on its maker's processors only."""
    info = Path("/proc/cpuinfo")
    intel = info.exists() and "GenuineIntel" in info.read_text(encoding="utf-8")
    return torch.backends.mkldnn.is_available() and not (
        intel and torch.backends.mkl.is_available()
    )


_ONEDNN = _by_onednn()


def fits(x: Tensor) -> bool:
    """Whether this module is the fast way for x."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def fits_few(x: Tensor) -> bool:
    """Whether `few_rows` is the fast way for x: a product that takes as long as its weights take to
    come from memory, and nothing to remember for a backward pass.
    """
    if not _ONEDNN or torch.is_grad_enabled() or x.numel() > FEW_ROWS * x.shape[-1]:
        return False
    return x.dtype == torch.float32 and torch.get_num_threads() > 1 and fits(x)


def few_rows(x: Tensor, weight: Tensor) -> Tensor:
    """x W for x [.., D], W [V, D]: oneDNN shares out a product with one row among cores."""
    return _product(x, weight)


def project(
    x: Tensor,
    norm: nn.RMSNorm | None,
    weight: Tensor,
    num_heads: int,
    turns: Sequence[tuple[Tensor, Tensor] | None],
) -> tuple[Tensor, ...]:
    """Heads of norm(x) W, one tensor for each entry of `turns`, turned by its angles if any.

    A turned part has its head's features in pairs, (0, P/2), (1, P/2 + 1), ..: products of two
    turned parts are those of `positions.rotate`, but a turned and a plain part do not go together.

    Args:
        x: [B, L, D].
        weight: [parts * H * P, D].
        turns: cosines and sines [L, P] of each part, see `positions.rotate`.

    Returns:
        [B, H, L, P] each.
    """
    circles = [None if t is None else _circle(t, x.dtype, num_heads) for t in turns]
    gain, eps = (None, 0.0) if norm is None else (norm.weight, norm.eps or 0.0)
    return _Project.apply(x, gain, weight, eps, num_heads, *circles)  # pyright: ignore


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / rms(x) * gain in half the operations of `F.rms_norm`."""
    return _unit(x, eps)[0] * gain


def feed_forward(x: Tensor, norm: nn.RMSNorm, up: Tensor, down: Tensor) -> Tensor:
    """x + gelu(norm(x) up) down for x [.., D]."""
    flat = x.flatten(0, -2)
    keep, eps = torch.is_grad_enabled(), norm.eps or 0.0
    return _FeedForward.apply(flat, norm.weight, up, down, eps, keep).view_as(x)  # pyright: ignore


def linear_nats(x: Tensor, weight: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Cross-entropy [T] in nats of targets [T] under softmax(x W) for x [T, D], W [V, D].

    Only the gradient of the logits is kept for the backward pass.
    """
    keep = torch.is_grad_enabled()
    return _LinearNats.apply(x, weight, targets, ignored, keep)  # pyright: ignore


class _Project(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | None,
        weight: Tensor,
        eps: float,
        num_heads: int,
        *circles: Tensor | None,
    ) -> tuple[Tensor, ...]:
        weight_in_pairs = weight[_order(weight, num_heads, circles)]
        out = x.new_empty(*x.shape[:2], len(weight))
        for rows in _blocks(len(x), x.shape[1], ROWS):
            normed = x[rows] if gain is None else _unit(x[rows], eps)[0].mul_(gain)
            out[rows] = _product(normed.flatten(0, 1), weight_in_pairs).view_as(out[rows])
            _turn(out[rows], circles)
        ctx.save_for_backward(x, gain, weight, *circles)
        ctx.eps, ctx.num_heads = eps, num_heads
        return tuple(_heads(part, num_heads) for part in out.chunk(len(circles), dim=-1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, gain, weight, *circles = ctx.saved_tensors
        order = _order(weight, ctx.num_heads, circles)
        weight_in_pairs = weight[order]
        grad_x = torch.empty_like(x)
        grad_gain = None if gain is None else torch.zeros_like(gain)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[2] else None
        back = [None if circle is None else circle.conj().resolve_conj() for circle in circles]
        for rows in _blocks(len(x), x.shape[1], ROWS):
            some = x[rows]
            unit, scale = (some, None) if gain is None else _unit(some, ctx.eps)
            grad = some.new_empty(*some.shape[:2], len(weight))
            for part, of_part in zip(grad.chunk(len(grads), dim=-1), grads, strict=True):
                heads = _heads(part, ctx.num_heads)
                heads.zero_() if of_part is None else heads.copy_(of_part[rows])
            _turn(grad, back)
            grad = grad.flatten(0, 1)
            if grad_weight is not None:
                normed = unit if gain is None else unit * gain
                grad_weight.addmm_(grad.t(), normed.flatten(0, 1))
            of_normed = _product(grad, weight_in_pairs.t()).view_as(some)
            if gain is not None and grad_gain is not None and scale is not None:
                of_normed = _norm_backward(of_normed, unit, scale, gain, grad_gain)
            grad_x[rows] = of_normed
        if grad_weight is not None:
            grad_weight = torch.empty_like(weight).index_copy_(0, order, grad_weight)
        return grad_x, grad_gain, grad_weight, None, None, *(None for _ in circles)


class _FeedForward(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, up: Tensor, down: Tensor, eps: float, keep: bool
    ) -> Tensor:
        out, inner = torch.empty_like(x), []
        for rows in _blocks(len(x), 1, ROWS):
            inner.append(_product(_unit(x[rows], eps)[0].mul_(gain), up))
            torch.add(x[rows], _product(_gelu(inner[-1]), down), out=out[rows])
            if not keep:
                inner.pop()
        ctx.save_for_backward(x, gain, up, down, *inner)
        ctx.eps = eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, gain, up, down, *inner = ctx.saved_tensors
        grad_x, grad_gain = torch.empty_like(x), torch.zeros_like(gain)
        grad_up = torch.zeros_like(up) if ctx.needs_input_grad[2] else None
        grad_down = torch.zeros_like(down) if ctx.needs_input_grad[3] else None
        for rows, before in zip(_blocks(len(x), 1, ROWS), inner, strict=True):
            some, (unit, scale) = grad[rows], _unit(x[rows], ctx.eps)
            after, slope = _gelu_and_slope(before)
            if grad_down is not None:
                grad_down.addmm_(some.t(), after)
            of_inner = _product(some, down.t()).mul_(slope)
            if grad_up is not None:
                grad_up.addmm_(of_inner.t(), unit * gain)
            of_normed = _norm_backward(_product(of_inner, up.t()), unit, scale, gain, grad_gain)
            torch.add(some, of_normed, out=grad_x[rows])
        return grad_x, grad_gain, grad_up, grad_down, None, None


class _LinearNats(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, ignored: int, keep: bool
    ) -> Tensor:
        nats, kept = x.new_empty(len(x)), []
        scored = targets != ignored
        index = targets.masked_fill(~scored, 0).unsqueeze(-1)
        minus_one = x.new_full((len(x), 1), -1.0)
        for rows in _blocks(len(x), 1, LOGIT_ROWS):
            log_probs = _product(x[rows], weight).log_softmax(-1)
            nats[rows] = -log_probs.gather(-1, index[rows]).squeeze(-1)
            if keep:
                surprise = log_probs.exp_()  # probabilities less what came true
                kept.append(surprise.scatter_add_(-1, index[rows], minus_one[rows]))
        ctx.save_for_backward(x, weight, scored, *kept)
        return nats.masked_fill_(~scored, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, weight, scored, *kept = ctx.saved_tensors
        grad = grad.masked_fill(~scored, 0.0).unsqueeze(-1)
        grad_x = torch.empty_like(x)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for rows, surprise in zip(_blocks(len(x), 1, LOGIT_ROWS), kept, strict=True):
            torch.mul(_product(surprise, weight.t()), grad[rows], out=grad_x[rows])
            if grad_weight is not None:
                grad_weight.addmm_(surprise.t(), x[rows] * grad[rows])
        return grad_x, grad_weight, None, None, None


def _blocks(length: int, tokens: int, rows: int) -> Iterator[slice]:
    """Slices of a first axis with `tokens` tokens an entry, about `rows` tokens each."""
    size = max(1, rows // max(tokens, 1))
    return (slice(start, start + size) for start in range(0, length, size))


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, L, H*P] -> [B, H, L, P], a view."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x W for x [T, D], W [V, D]."""
    if _ONEDNN and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return x @ weight.t()


def _gelu(x: Tensor) -> Tensor:
    """The tanh form of GELU, as x sigmoid(x w): half the time of `F.gelu`, the same to a bit."""
    value = torch.empty_like(x)
    for rows in _blocks(len(x), 1, GELU_ROWS):
        some = x[rows]
        torch.mul(some, _gelu_width(some), out=value[rows]).sigmoid_().mul_(some)
    return value


def _gelu_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """GELU and its derivative, from one sigmoid."""
    values, slopes = torch.empty_like(x), torch.empty_like(x)
    for rows in _blocks(len(x), 1, GELU_ROWS):
        some, width = x[rows], _gelu_width(x[rows])
        share = torch.mul(some, width, out=slopes[rows]).sigmoid_()
        value = torch.mul(some, share, out=values[rows])
        # d(x w) / dx = 3 w - 2 w(0)
        share.addcmul_(value.addcmul(value, share, value=-1), width.mul_(3).sub_(2 * GELU_WIDTH))
    return values, slopes


def _gelu_width(x: Tensor) -> Tensor:
    constant = x.new_tensor(GELU_WIDTH)
    return torch.addcmul(constant, x, x, value=GELU_WIDTH * 0.044715)


def _unit(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / rms(x) and 1 / rms(x) [.., 1]."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = torch.addcmul(x.new_full((), eps), length, length, value=1 / x.shape[-1]).rsqrt_()
    return x * scale, scale


def _norm_backward(
    grad: Tensor, unit: Tensor, scale: Tensor, gain: Tensor, grad_gain: Tensor
) -> Tensor:
    """Gradient for x of x * scale * gain; adds to the gain's, uses up `grad` and `unit`."""
    both = grad * unit
    grad_gain += both.flatten(0, -2).sum(0)
    shared = (both @ gain).unsqueeze(-1).div_(unit.shape[-1])
    return grad.mul_(gain).sub_(unit.mul_(shared)).mul_(scale)


def _circle(turns: tuple[Tensor, Tensor], dtype: torch.dtype, num_heads: int) -> Tensor:
    """Complex numbers [L, H * P/2] that turn pairs of features."""
    cos, sin = (t[:, t.shape[-1] // 2 :].to(dtype) for t in turns)
    return torch.complex(cos, sin).repeat(1, num_heads)


def _order(weight: Tensor, num_heads: int, circles: Sequence[Tensor | None]) -> Tensor:
    """Rows of the weight in the order in which turned parts have their features in pairs."""
    order = torch.arange(len(weight)).view(len(circles), num_heads, -1)
    for part, circle in enumerate(circles):
        if circle is not None:
            order[part] = order[part].unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
    return order.flatten()


def _turn(x: Tensor, circles: Sequence[Tensor | None]) -> None:
    """Turns the parts of x [B, L, parts * H * P] in place."""
    for part, circle in zip(x.chunk(len(circles), dim=-1), circles, strict=True):
        if circle is not None:
            torch.view_as_complex(part.unflatten(-1, (-1, 2))).mul_(circle)

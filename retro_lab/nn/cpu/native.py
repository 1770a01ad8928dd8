"""The kernels of `compiled.py` as functions of CPU tensors, except those in `fused_token.py`.

Results are independent of the number of threads.

Shapes: T rows of width D, see `attention.py` for the others; all tensors in single or all in double
precision.
"""

from __future__ import annotations

from ctypes import byref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..positions import CosSin
from .compiled import Geometry, library


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / rms(x) * gain for x [.., D]."""
    x = x.contiguous()
    out, (rows, width) = torch.empty_like(x), rows_of(x)
    call("rms_norm", x, gain, eps, out, rows, width)
    return out


def rms_norm_backward(
    x: Tensor,
    gain: Tensor,
    eps: float,
    grad: Tensor,
    grad_gain: Tensor,
    beside: Tensor | None,
    out: Tensor | None = None,
) -> Tensor:
    """Gradient for x from that of `rms_norm`'s result, plus `beside` if any; adds to grad_gain.

    Args:
        out: contiguous output of x's shape; None allocates one.
    """
    out, (rows, width) = torch.empty_like(x) if out is None else out, rows_of(x)
    call("rms_norm_backward", x, gain, eps, grad, beside, out, grad_gain, rows, width)
    return out


def gelu(x: Tensor) -> Tensor:
    """The tanh form of GELU."""
    out = torch.empty_like(x)
    call("gelu", x, out, x.numel())
    return out


def gelu_backward(x: Tensor, grad: Tensor) -> Tensor:
    """Recomputes gelu(x); replaces `grad`, its gradient, by that of x."""
    out = torch.empty_like(x)
    call("gelu_backward", x, grad, out, x.numel())
    return out


def rotate(x: Tensor, num_heads: int, cos_sin: CosSin) -> None:
    """Rotates x [T, H*P] in place; row t is at position t % L of `cos_sin`, [L, P] each."""
    (tokens, width), (cosines, sines) = x.shape, cos_sin
    call("rotate", x, tokens, num_heads, width // num_heads, cosines, sines, len(cosines))


@dataclass(frozen=True)
class Packed:
    """A matrix packed for `multiply`.

    Attributes:
        panels: its numbers.
        depth, cols: its shape.
    """

    panels: Tensor
    depth: int
    cols: int


def pack(matrix: Tensor) -> Packed:
    """Packs a matrix [D, V] of any strides for repeated products with rows [T, D]."""
    depth, cols = matrix.shape
    loaded = library(matrix.dtype)
    assert loaded is not None
    panels = matrix.new_empty(loaded.packed_size(depth, cols))
    call("pack", matrix, depth, cols, *matrix.stride(), panels)
    return Packed(panels, depth, cols)


def multiply(
    x: Tensor, packed: Packed, out: Tensor | None = None, beside: Tensor | None = None
) -> Tensor:
    """x [T, D] times a matrix [D, V], plus `beside` [T, V] if any.

    Args:
        out: contiguous output [T, V]; None allocates one.
    """
    if x.shape[-1] != packed.depth:
        raise ValueError(f"{x.shape[-1]} features for a matrix of {packed.depth} rows")
    x, rows, shape = x if x.stride(-1) == 1 else x.contiguous(), len(x), [len(x), packed.cols]
    if beside is not None and [*beside.shape] != shape:
        raise ValueError(f"{[*beside.shape]} cannot be added to {shape}")
    out = x.new_empty(shape) if out is None else out
    if [*out.shape] != shape:
        raise ValueError(f"{[*out.shape]} is no place for {shape}")
    call("multiply", x, x.stride(0), rows, packed.depth, packed.panels, packed.cols, beside, out)
    return out


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats [T] of targets [T], 0 for negative ones; replaces logits [T, V] by their gradient."""
    nats, (rows, width) = logits.new_empty(len(logits)), rows_of(logits)
    call("cross_entropy", logits, targets, nats, rows, width)
    return nats


def can_attend(width: int, mask: Tensor | None, dtype: torch.dtype) -> bool:
    """Whether `attend` supports heads of this width under this mask."""
    loaded = library(dtype)
    return (
        loaded is not None
        and width % loaded.lanes() == 0
        and (mask is None or (mask.dim() == 4 and mask.shape[1] == 1 and mask.dtype == torch.bool))
    )


@dataclass(frozen=True)
class AttentionSpec:
    """Settings of `attend` for queries [B, L, H, P], keys and values [B, S, H, P].

    Attributes:
        cos_sin: rotations of queries and keys, None for no rotation.
        mask: broadcastable to [B, 1, L, S], True where attention is allowed.
        causal: hides positions after the query's own.
        share: [H], share of the previous key in each key, before rotation; None without smearing.
        follows: [B, S] bool, whether a key has a previous one; None for all but the first.
    """

    cos_sin: tuple[CosSin | None, CosSin | None] = (None, None)
    mask: Tensor | None = None
    causal: bool = False
    share: Tensor | None = None
    follows: Tensor | None = None


def attend(
    parts: tuple[Tensor, Tensor, Tensor], how: AttentionSpec, out: Tensor, log_sum: Tensor
) -> None:
    """softmax(q k / sqrt(P)) v and, for the backward pass, the logarithms of the sums.

    Args:
        parts: queries, keys, values; heads adjacent in memory.
        out: contiguous output [B, L, H, P].
        log_sum: contiguous output [B, H, L].
    """
    geometry, kept = _geometry(parts, how)
    call("attend", byref(geometry), *parts, out, log_sum)
    del kept


def attend_backward(
    parts: tuple[Tensor, Tensor, Tensor],
    how: AttentionSpec,
    out: Tensor,
    log_sum: Tensor,
    grad: Tensor,
    grads: tuple[Tensor, Tensor, Tensor],
) -> Tensor | None:
    """Writes gradients of `attend` for its parts; returns that of the share [H], if any.

    Args:
        grad: gradient of `out`, contiguous.
        grads: outputs for the parts' gradients, each with the strides of its part.
    """
    geometry, kept = _geometry(parts, how)
    of_share = None if how.share is None else out.new_empty(len(out), len(how.share))
    call("attend_backward", byref(geometry), *parts, out, log_sum, grad, *grads, of_share)
    del kept
    return None if of_share is None else of_share.sum(0)


def _geometry(
    parts: tuple[Tensor, Tensor, Tensor], how: AttentionSpec
) -> tuple[Geometry, list[Tensor | None]]:
    """The struct `Geometry` for attention.c, and the tensors that it points to."""
    (batch, length, heads, width), keys = parts[0].shape, parts[1].shape[1]
    strides = [stride for part in parts for stride in part.stride()[:2]]
    mask, by_batch, by_query = how.mask, 0, 0
    if mask is not None:
        mask = mask.expand(*mask.shape[:-1], keys).contiguous()
        by_batch = mask.stride(0) if mask.shape[0] > 1 else 0
        by_query = mask.stride(-2) if mask.shape[-2] > 1 else 0
    waves: list[Tensor | None] = []
    for cos_sin, places in zip(how.cos_sin, (length, keys), strict=True):
        if cos_sin is not None and any(wave.shape != (places, width) for wave in cos_sin):
            raise ValueError(f"cos_sin of {[*cos_sin[0].shape]} for heads of [{places}, {width}]")
        waves += (None, None) if cos_sin is None else (wave.contiguous() for wave in cos_sin)
    kept = [mask, *waves, how.share, None if how.follows is None else how.follows.contiguous()]
    if any(x.is_floating_point() and x.dtype != parts[0].dtype for x in kept if x is not None):
        raise TypeError(f"cos_sin and share must be {parts[0].dtype}")
    of_mask, *others = (None if x is None else x.data_ptr() for x in kept)
    sizes = (batch, heads, length, keys, width)
    return Geometry(*sizes, *strides, of_mask, by_batch, by_query, how.causal, *others), kept


def rows_of(x: Tensor) -> tuple[int, int]:
    """Number and width of the rows of x [.., D]."""
    return x.numel() // x.shape[-1], x.shape[-1]


def call(name: str, *arguments: Any) -> None:
    """Calls a kernel in the precision of its first tensor, on PyTorch's threads."""
    dtype, plain = None, []
    for argument in arguments:
        if not isinstance(argument, Tensor):
            plain.append(argument)
            continue
        if not argument.is_cpu:
            raise ValueError(f"{name}: all tensors must be in the memory of the CPU")
        plain.append(argument.data_ptr())
        dtype = dtype or argument.dtype
        if argument.dtype != dtype and argument.is_floating_point():
            raise TypeError(f"{name}: all tensors must be {dtype}")
    assert dtype is not None
    loaded = library(dtype)
    assert loaded is not None
    getattr(loaded, name)(*plain, torch.get_num_threads())

"""A layer's operations for one generated token on a CPU: kernels that read each weight once.

For a single token, PyTorch's call overhead exceeds the computation, so calls and checks here are
kept short too. `fused.fits` decides when kernels are used.
"""

from __future__ import annotations

from ctypes import byref
from typing import NamedTuple

import torch
from torch import Tensor

from ..layers import EPSILON
from ..positions import CosSin
from . import fused
from .compiled import Held
from .fused_attention import Weights
from .native import call, can_attend, rows_of

FEW_ROWS = 8  # beyond it, PyTorch's products are faster


class Past(NamedTuple):
    """Keys and values of the positions that a new token may see in a layer.

    Attributes:
        keys, values: contiguous [B, H, C, P], smeared and rotated, with capacity for C positions.
        seen: number of valid positions.
        cos_sin: of the new token's position, [1, P] or [B, 1, 1, P]; None without rotation.
        mask: [B, 1, 1, seen], or one row for all, True where the token may attend.
        grows: whether the new token's key and value are written to the last of the `seen`
            positions.
        last: contiguous [B, H, 1, P], the previous raw key, replaced by the new one. None without
            smearing or growth.
    """

    keys: Tensor
    values: Tensor
    seen: int
    cos_sin: CosSin | None
    mask: Tensor | None
    grows: bool = False
    last: Tensor | None = None


def fits(x: Tensor) -> bool:
    """Whether x [.., D] has few enough rows and needs no gradient."""
    return not torch.is_grad_enabled() and x.numel() <= FEW_ROWS * x.shape[-1] and fused.fits(x)


def is_token(x: Tensor, head_dim: int, mask: Tensor | None) -> bool:
    """Whether x [B, L, D] holds one token a row that the kernels support under this mask."""
    return x.shape[1] == 1 and fits(x) and can_attend(head_dim, mask, x.dtype)


def gemv(x: Tensor, weight: Tensor) -> Tensor:
    """x W for x [.., D], W [V, D]."""
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"{x.shape[-1]} features for weights of {weight.shape[1]}")
    x, weight, (rows, width) = x.contiguous(), weight.contiguous(), rows_of(x)
    out = x.new_empty(*x.shape[:-1], len(weight))
    call("gemv", x, weight, out, rows, width, len(weight))
    return out


def feed_forward(x: Tensor, gain: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x + gelu(norm(x) up) down for x [.., D], up [I, D], down [D, I]; `gain` is the norm's."""
    if up.shape != down.shape[::-1] or up.shape[1] != x.shape[-1]:
        raise ValueError(f"{x.shape[-1]} features, {[*up.shape]} up and {[*down.shape]} down")
    x = x.contiguous()
    out, (rows, width) = torch.empty_like(x), rows_of(x)
    weights = up.contiguous(), down.contiguous()
    call("feed_few", x, gain, EPSILON, *weights, out, rows, width, len(up))
    return out


def attention(x: Tensor, weights: Weights, past: Past, residual: bool) -> Tensor:
    """Attention from norm(x) [B, 1, D] to the past, plus x if residual.

    Args:
        weights: `second` is ignored, since the past is already projected.
    """
    held, kept = _held(x, weights, past)
    first, out, width = weights.first.contiguous(), weights.out.contiguous(), x.shape[-1]
    x = x.contiguous()
    read = torch.empty_like(x)
    call("attend_few", byref(held), x, width, weights.gain, EPSILON, first, out, residual, read)
    del kept
    return read


def _held(x: Tensor, weights: Weights, past: Past) -> tuple[Held, list[Tensor | None]]:
    """The struct `Held` for token.c, and the tensors that it points to."""
    if not _fits_together(x, weights, past):
        tensors = {"x": x} | past._asdict() | weights._asdict()
        shapes = {name: [*part.shape] for name, part in tensors.items() if torch.is_tensor(part)}
        raise ValueError(f"these don't fit together: {past.seen} places seen of {shapes}")
    batch, heads, capacity, width = past.keys.shape
    mask, (cosines, sines) = past.mask, past.cos_sin or (None, None)
    by_row = 0 if mask is None or len(mask) == 1 else past.seen
    apart = 0 if cosines is None or cosines.numel() == width else width
    share = None if past.last is None else weights.share
    kept, addresses = [], []
    for part in (mask, past.keys, past.values, past.last, share, cosines, sines):
        if part is None:
            addresses.append(None)
            continue
        if part.dtype != (torch.bool if part is mask else x.dtype) or not part.is_cpu:
            raise TypeError(f"what is held must be {x.dtype}, a mask bool, on the CPU")
        kept.append(part.contiguous())
        addresses.append(kept[-1].data_ptr())
    of_mask, *others = addresses
    sizes = batch, heads, width, capacity, past.seen, past.grows
    return Held(*sizes, *others, apart, of_mask, by_row), kept


def _fits_together(x: Tensor, weights: Weights, past: Past) -> bool:
    """Whether all shapes match; runs for every token, hence without loops."""
    (batch, heads, capacity, width), features = past.keys.shape, x.shape[-1]
    last, seen, mask, cos_sin = past.last, past.seen, past.mask, past.cos_sin
    gain, share, first, _, out = weights
    inner, each_row = heads * width, (batch, 1, 1)
    return (
        x.shape[:2] == (batch, 1)
        and 1 <= seen <= capacity
        and past.keys.is_contiguous()
        and past.values.is_contiguous()
        and past.values.shape == past.keys.shape
        and first.shape == ((3 if past.grows else 1) * inner, features)
        and out.shape == (features, inner)
        and (gain is None or gain.shape == (features,))
        and (share is None or share.shape == (heads,))
        and (last is None or (last.shape == (batch, heads, 1, width) and last.is_contiguous()))
        and (mask is None or mask.shape in ((1, 1, 1, seen), (*each_row, seen)))
        and (
            cos_sin is None
            or (
                cos_sin[0].shape == cos_sin[1].shape
                and cos_sin[0].shape in ((1, width), (1, 1, 1, width), (*each_row, width))
            )
        )
    )

"""A generated token's way through a layer on a CPU: kernels that read each weight once.

By PyTorch's operations a token's layer takes longer to be called than to be computed. Whatever
generation asks of every layer is kept short here for the same reason. `fused.py` says when kernels
can be used at all.
"""

from __future__ import annotations

from ctypes import byref
from typing import NamedTuple

import torch
from torch import Tensor

from . import fused
from .compiled import Held
from .fused_attention import Weights
from .native import Turns, call, can_attend, rows_of

FEW_ROWS = 8  # that are multiplied with weights as these come from memory


class Past(NamedTuple):
    """What a layer holds of the places that a new token may see.

    Attributes:
        keys, values: [B, H, C, P] in one piece, smeared and turned, room for C places.
        seen: places that count.
        turns: of the new token's place, [1, P] or [B, 1, 1, P]; None if nothing is turned.
        mask: broadcastable to [B, 1, 1, seen], True where the token may look.
        grows: the new token's key and value are written to the last of the places seen.
        last: [B, H, 1, P] in one piece, the key before the new one, as it was before it was
            smeared; becomes the new one. None if keys are not smeared, or the past does not grow.
    """

    keys: Tensor
    values: Tensor
    seen: int
    turns: Turns | None
    mask: Tensor | None
    grows: bool = False
    last: Tensor | None = None


def fits(x: Tensor) -> bool:
    """Whether x [.., D] has so few rows, and nothing to remember for a backward pass."""
    return not torch.is_grad_enabled() and x.numel() <= FEW_ROWS * x.shape[-1] and fused.fits(x)


def is_token(x: Tensor, head_dim: int, mask: Tensor | None) -> bool:
    """Whether x [B, L, D] is one token a row that can attend by kernels under this mask."""
    return x.shape[1] == 1 and fits(x) and can_attend(head_dim, mask, x.dtype)


def few_rows(x: Tensor, weight: Tensor) -> Tensor:
    """x W for x [.., D], W [V, D]."""
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"{x.shape[-1]} features for weights of {weight.shape[1]}")
    x, weight, (rows, width) = x.contiguous(), weight.contiguous(), rows_of(x)
    out = x.new_empty(*x.shape[:-1], len(weight))
    call("few_rows", x, weight, out, rows, width, len(weight))
    return out


def feed_forward(x: Tensor, gain: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x + gelu(norm(x) up) down for x [.., D], up [I, D], down [D, I]; `gain` is the norm's."""
    if up.shape != down.shape[::-1] or up.shape[1] != x.shape[-1]:
        raise ValueError(f"{x.shape[-1]} features, {[*up.shape]} up and {[*down.shape]} down")
    x = x.contiguous()
    out, (rows, width) = torch.empty_like(x), rows_of(x)
    weights = up.contiguous(), down.contiguous()
    call("feed_few", x, gain, fused.EPSILON, *weights, out, rows, width, len(up))
    return out


def attention(x: Tensor, weights: Weights, past: Past, residual: bool) -> Tensor:
    """Attention from norm(x) [B, 1, D] to the past, plus x if it is residual.

    Args:
        weights: `second` is not used: what is held went through it.
    """
    held, kept = _held(x, weights.share, past)
    first, out = weights.first.contiguous(), weights.out.contiguous()
    side, width = held.heads * held.width, x.shape[-1]
    if first.shape != ((3 if past.grows else 1) * side, width) or out.shape != (width, side):
        shapes = [*first.shape], [*out.shape]
        raise ValueError(f"weights of {shapes} for {[*x.shape]} and {[*past.keys.shape]}")
    x, read = x.contiguous(), torch.empty_like(x)
    call(
        "attend_few", byref(held), x, width, weights.gain, fused.EPSILON, first, out, residual, read
    )
    del kept
    return read


def _held(x: Tensor, share: Tensor | None, past: Past) -> tuple[Held, list[Tensor | None]]:
    """What token.c wants to know of the past, and the tensors that it points to."""
    batch, heads, capacity, width = past.keys.shape
    unlike = past.values.shape != past.keys.shape
    if unlike or x.shape[:2] != (batch, 1) or past.seen > capacity:
        raise ValueError(f"{[*x.shape]} looks at {past.seen} places of {[*past.keys.shape]}")
    written = past.keys, past.values, past.last
    if not all(part is None or part.is_contiguous() for part in written):
        raise ValueError("what is held must be in one piece")
    mask, by_row = past.mask, 0
    if mask is not None:
        mask = mask.expand(*mask.shape[:-1], past.seen).contiguous()
        by_row = past.seen if len(mask) > 1 else 0
    cosines, sines = past.turns or (None, None)
    angles = width if cosines is None else cosines.numel()
    if angles not in (width, batch * width):
        raise ValueError(f"turns of {angles} numbers for {batch} heads of {width}")
    apart = 0 if angles == width else width
    kept: list[Tensor | None] = [mask]
    for part in (*written, None if past.last is None else share, cosines, sines):
        if part is not None and part.dtype != x.dtype:
            raise TypeError(f"all tensors must be {x.dtype}")
        kept.append(None if part is None else part.contiguous())
    of_mask, *others = (None if part is None else part.data_ptr() for part in kept)
    sizes = batch, heads, width, capacity, past.seen, past.grows
    return Held(*sizes, *others, apart, of_mask, by_row), kept

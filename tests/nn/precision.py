"""What tests of kernels share: random numbers, and what counts as equal to them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from retro_lab.nn.cpu import compiled
from retro_lab.nn.positions import Axis, CosSin, RotaryPositions

needs_kernels = pytest.mark.skipif(
    compiled.library(torch.float32) is None, reason="no C compiler with OpenMP here"
)
both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(own: Tensor, expected: Tensor) -> None:
    """Equal up to rounding in the precision of `own`, relative to the largest entry, at least 1."""
    exact = 1e-12 if own.dtype == torch.float64 else 1e-5
    size = max(expected.abs().amax().item(), 1.0) if expected.numel() else 1.0
    torch.testing.assert_close(own.double(), expected, rtol=exact, atol=exact * size)


def cos_sin(places: int, width: int, dtype: torch.dtype, start: int = 3) -> CosSin:
    """Of the places start, start + 1, .."""
    axis = Axis(places, start)
    cosines, sines = RotaryPositions(width, 10_000.0).cos_sin(axis, randn(1))
    return cosines.to(dtype), sines.to(dtype)

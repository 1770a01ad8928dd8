"""Maps module classes to their accelerated subclasses."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from ..attention import CrossAttention
from ..layers import Linear, RMSNorm
from ..positions import RotaryPositions
from ..retro import DecoderBlock, EncoderBlock, NeighbourEncoder, Retro
from . import modules
from .compiled import library
from .copies import DistinctEncoder

Model = TypeVar("Model", bound=nn.Module)

_KERNELS: dict[type[nn.Module], type[nn.Module]] = {
    Linear: modules.KernelLinear,
    RMSNorm: modules.KernelNorm,
    RotaryPositions: modules.KernelRotary,
    CrossAttention: modules.KernelCrossAttention,
    EncoderBlock: modules.KernelEncoderBlock,
    DecoderBlock: modules.KernelDecoderBlock,
    Retro: modules.KernelRetro,
}
_EVERYWHERE: dict[type[nn.Module], type[nn.Module]] = {NeighbourEncoder: DistinctEncoder}
_PLAIN = {fast: plain for plain, fast in (_KERNELS | _EVERYWHERE).items()}


def accelerate(model: Model) -> Model:
    """Switches the model's modules to accelerated classes in place; weights stay.

    Without a C compiler, only equal neighbours are merged (`DistinctEncoder`). Modules of any other
    class (subclasses, adapters) stay as they are.
    """
    kernels = {} if library(torch.float32) is None else _KERNELS
    return _changed(model, _EVERYWHERE | kernels)


def plain(model: Model) -> Model:
    """Reverts `accelerate`."""
    return _changed(model, _PLAIN)


def _changed(model: Model, classes: dict[type[nn.Module], type[nn.Module]]) -> Model:
    for module in model.modules():
        # Changes the class instead of replacing the module, so that hooks and references stay.
        module.__class__ = classes.get(type(module), type(module))
    return model

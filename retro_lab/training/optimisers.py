"""Optimisers from the configuration: AdamW, and Muon for hidden matrices.

Weight decay applies to matrices only, not to embeddings, norms, biases and other vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from retro_lab.config.errors import UserError
from retro_lab.config.schema import AdamWConfig, MuonConfig, OptimConfig


class ParameterGroups(NamedTuple):
    """Trainable parameters: matrices with weight decay, others without."""

    matrices: list[nn.Parameter]
    others: list[nn.Parameter]


def parameter_groups(model: nn.Module) -> ParameterGroups:
    """Matrices of linear maps, and all other trainable parameters; frozen ones are left out.

    A one-row or one-column matrix, such as a gate, counts as a vector.
    """
    lookup = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    groups = ParameterGroups([], [])
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim == 2 and min(parameter.shape) > 1 and id(parameter) not in lookup
        (groups.matrices if matrix else groups.others).append(parameter)
    return groups


def build_optimiser(model: nn.Module, config: OptimConfig, lr: float | None = None) -> Optimizer:
    """The configured optimiser over a model's trainable parameters.

    Args:
        lr: peak rate in place of `optim.lr`; Muon's rate is scaled by the same factor.

    Raises:
        UserError: for an unknown configuration class.
    """
    groups = parameter_groups(model)
    scale = 1.0 if lr is None else lr / config.lr
    if isinstance(config, MuonConfig):
        return _muon(groups, config, scale)
    if isinstance(config, AdamWConfig):
        return _adamw(groups, config, scale)
    raise UserError(
        f"optim={config.name}: no optimiser is registered for {type(config).__name__}",
        fix="choose optim=adamw or optim=muon",
    )


def _adamw(groups: ParameterGroups, config: AdamWConfig | MuonConfig, scale: float) -> AdamW:
    members = [
        {"params": groups.matrices, "weight_decay": config.weight_decay},
        {"params": groups.others, "weight_decay": 0.0},
    ]
    members = [member for member in members if member["params"]]
    fused = all(p.device.type in ("cpu", "cuda") for member in members for p in member["params"])
    beta1, beta2 = config.betas
    return AdamW(members, lr=config.lr * scale, betas=(beta1, beta2), eps=config.eps, fused=fused)


def _muon(groups: ParameterGroups, config: MuonConfig, scale: float) -> Optimizer:
    rest = _adamw(ParameterGroups([], groups.others), config, scale) if groups.others else None
    if not groups.matrices:
        assert rest is not None
        return rest
    muon = Muon(
        groups.matrices,
        lr=config.muon_lr * scale,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    return CombinedOptimizer([part for part in (rest, muon) if part is not None])


class CombinedOptimizer(Optimizer):
    """Several optimisers behind one interface, as Lightning's automatic optimisation requires.

    `param_groups` are the parts' own dicts, so a scheduler's changes reach the parts.
    """

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], defaults={})
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

"""Group `optim`: the optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class OptimConfig:
    """Base of all optimisers.

    Attributes:
        lr: peak learning rate.
        weight_decay: decoupled decay, on matrices only.
        clip: largest gradient norm; null leaves gradients alone.
    """

    name: str = "adamw"
    lr: float = 3e-3
    weight_decay: float = 0.1
    clip: float | None = 1.0


@dataclass
class AdamWConfig(OptimConfig):
    """AdamW."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1e-8


@dataclass
class MuonConfig(OptimConfig):
    """Muon on hidden matrices, AdamW on everything else.

    Attributes:
        lr: rate of the AdamW part.
        muon_lr: rate of the Muon part.
        momentum: of the Muon part.
    """

    name: str = "muon"
    muon_lr: float = 0.02
    momentum: float = 0.95
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1e-8

"""Groups `optim` (the optimiser) and `schedule` (steps, batch size and learning rate)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ..errors import UserError, problem
from .setting import setting


@dataclass
class OptimConfig:
    """Base of all optimisers.

    Attributes:
        name: the option's name.
        lr: peak learning rate.
        weight_decay: decoupled decay of matrices.
        clip: largest gradient norm; null disables clipping.
    """

    name: str = "adamw"
    lr: float = setting(3e-3, above=0)
    weight_decay: float = setting(0.1, at_least=0)
    clip: float | None = 1.0

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.clip is not None and self.clip <= 0:
            yield problem(f"{prefix}clip", self.clip, "must be above 0", f"{prefix}clip=null")
        betas = getattr(self, "betas", None)
        if betas is not None and (len(betas) != 2 or not all(0 <= beta < 1 for beta in betas)):
            rule = "must be two numbers in [0, 1)"
            yield problem(f"{prefix}betas", betas, rule, f"{prefix}betas=[0.9,0.95]")


@dataclass
class AdamWConfig(OptimConfig):
    """AdamW.

    Attributes:
        betas: decay of the running means of gradient and squared gradient.
        eps: added to the denominator of an update.
    """

    betas: list[float] = setting([0.9, 0.95])
    eps: float = setting(1e-8, above=0)


@dataclass
class MuonConfig(OptimConfig):
    """Muon on hidden matrices, AdamW on everything else.

    Attributes:
        lr: learning rate of the AdamW part.
        muon_lr: learning rate of the Muon part.
        momentum: momentum of the Muon part.
        betas: as for AdamW, of the AdamW part.
        eps: as for AdamW, of the AdamW part.
    """

    name: str = "muon"
    muon_lr: float = setting(0.02, above=0)
    momentum: float = setting(0.95, at_least=0, below=1)
    betas: list[float] = setting([0.9, 0.95])
    eps: float = setting(1e-8, above=0)


class Decay(Enum):
    """Shape of the learning rate after warm-up."""

    cosine = "cosine"
    constant = "constant"


@dataclass
class ScheduleConfig:
    """Training length and learning-rate schedule.

    Attributes:
        name: the option's name.
        steps: optimiser steps.
        batch_size: sequences a step, over all devices and accumulation.
        warmup_steps: linear warm-up from zero.
        decay: shape after warm-up.
        final_ratio: learning rate at the end, as a share of the peak.
    """

    name: str = "cosine"
    steps: int = setting(400, at_least=1, at_most=10**9)
    batch_size: int = setting(8, at_least=1, at_most=2**20)
    warmup_steps: int = setting(20, at_least=0)
    decay: Decay = Decay.cosine
    final_ratio: float = setting(0.1, at_least=0, at_most=1)

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.warmup_steps > self.steps:
            yield problem(
                f"{prefix}warmup_steps",
                self.warmup_steps,
                f"is more than {prefix}steps={self.steps}",
                f"{prefix}warmup_steps={self.steps // 10}",
            )

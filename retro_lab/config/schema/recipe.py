"""Groups `recipe`, how the retrieval parts are trained and the read-outs beyond the paper, and
`plain`, the model without retrieval that RETRO's gain is measured against.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ..errors import UserError, problem
from .optim import OptimConfig
from .setting import setting

_SECOND_PHASE = ("freeze", "unfreeze_after", "steps", "lr", "warmup_steps", "optim")
_OF_POINTER = ("pointer_heads", "pointer_start", "match_bias")


class Method(Enum):
    """`scratch` trains everything at once; `retrofit` grafts retrieval on a trained baseline."""

    scratch = "scratch"
    retrofit = "retrofit"


class Freeze(Enum):
    """Which weights a retrofit leaves alone."""

    backbone = "backbone"
    none = "none"


class PointerStart(Enum):
    """`cautious` starts by copying what matches; `zero` has to learn what a match is worth."""

    cautious = "cautious"
    zero = "zero"


class Curriculum(Enum):
    """Neighbours a training step reads: all k, each step a random number up to k, or one at first
    and k in the last k-th of the steps.
    """

    none = "none"
    random = "random"
    growing = "growing"


@dataclass
class RecipeConfig:
    """A way to train RETRO.

    Attributes:
        name: the option's name.
        method: from scratch (the paper's) or retrofit on the shared baseline.
        smeared_keys: each attention key is a learned, per-head mix of its own token's and the
            previous token's; helps every small model, baseline included.
        pointer: mix the language model's distribution with attention over the neighbours' next
            tokens, through a learned gate.
        pointer_heads: distributions over the neighbours' places that the pointer mixes; they share
            the attention's width.
        pointer_start: what a matching token is worth to the pointer at first.
        match_bias: a place scores higher the more of its preceding tokens equal the text just
            read; false leaves plain attention.
        k_curriculum: how many of the k neighbours a training step reads.
        neighbour_dropout: share of chunks that a training step shows without neighbours.
        backbone: for `retrofit`, a Hugging Face causal language model to graft on, by hub name,
            local folder or GGUF file; null grafts on the shared baseline. Its sizes and its
            tokenizer take the place of this configuration's.
        freeze: for `retrofit`, whether the backbone's weights stay fixed.
        unfreeze_after: for `freeze=backbone`, steps of the second phase after which the backbone
            is trained too; null is never. RETRO[OFF] is then no longer the baseline.
        steps: for `retrofit`, optimiser steps of the second phase.
        lr: for `retrofit`, peak learning rate of the second phase.
        warmup_steps: for `retrofit`, warm-up of the second phase.
        optim: for `retrofit`, optimiser of the second phase (`optim@recipe.optim=muon`), at `lr`;
            null takes `optim`.
        val_every: for `retrofit`, steps of the second phase between validations; null validates
            four times, or every `trainer.val_every` steps if that is more often. Never changes the
            result.
    """

    name: str = "retrofit"
    method: Method = Method.retrofit
    smeared_keys: bool = True
    pointer: bool = True
    pointer_heads: int = setting(1, at_least=1, at_most=2**10)
    pointer_start: PointerStart = PointerStart.cautious
    match_bias: bool = True
    k_curriculum: Curriculum = Curriculum.none
    neighbour_dropout: float = setting(0.0, at_least=0, below=1)
    backbone: str | None = setting(None, path=True)
    freeze: Freeze = Freeze.backbone
    unfreeze_after: int | None = None
    steps: int = setting(80, at_least=1, at_most=10**9)
    lr: float = setting(3e-3, above=0)
    warmup_steps: int = setting(10, at_least=0)
    optim: OptimConfig | None = None
    val_every: int | None = setting(None, at_least=1, identity=False)

    @property
    def unused(self) -> list[str]:
        """Settings that do not change what this recipe trains."""
        unused: list[str] = []
        if self.method is Method.scratch:
            unused += _SECOND_PHASE
        if not self.pointer:
            unused += _OF_POINTER
        elif not self.match_bias:
            unused.append("pointer_start")
        return unused

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.method is Method.scratch:
            if self.freeze is Freeze.backbone:
                yield problem(
                    f"{prefix}freeze",
                    self.freeze,
                    "from scratch, a frozen backbone would stay untrained",
                    f"{prefix}freeze=none, or {prefix}method=retrofit",
                )
            return
        if self.warmup_steps > self.steps:
            yield problem(
                f"{prefix}warmup_steps",
                self.warmup_steps,
                f"is more than {prefix}steps={self.steps}",
                f"{prefix}warmup_steps={self.steps // 10}",
            )
        after = self.unfreeze_after
        if after is not None and self.freeze is not Freeze.backbone:
            yield problem(
                f"{prefix}unfreeze_after",
                after,
                f"with {prefix}freeze={self.freeze.name} nothing is frozen before",
                f"{prefix}unfreeze_after=null, or {prefix}freeze=backbone",
            )
        elif after is not None and not 1 <= after < self.steps:
            yield problem(
                f"{prefix}unfreeze_after",
                after,
                f"must be from 1 to {prefix}steps - 1 = {self.steps - 1}",
                f"{prefix}unfreeze_after=null (never), or {prefix}freeze=none (from the start)",
            )


class PlainMatch(Enum):
    """What the plain model has as much of as RETRO: training tokens, training FLOPs, or `none`."""

    tokens = "tokens"
    flops = "flops"
    none = "none"


@dataclass
class PlainConfig:
    """The plain model: the baseline, trained for longer; a run of its own, shared as that one is.

    Attributes:
        match: `tokens` trains it for all of RETRO's steps, those of both phases of a retrofit;
            `flops` for as many steps as cost what RETRO's training does; `none` leaves it out.
        lr: its peak learning rate, as tuned on validation; null takes `optim.lr`.
    """

    match: PlainMatch = PlainMatch.tokens
    lr: float | None = setting(None, above=0)

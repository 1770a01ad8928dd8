"""Groups `recipe`, training of the retrieval parts and read-outs beyond the paper, and `plain`, the
model without retrieval that RETRO's gain is measured against.
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
    """`scratch` trains everything at once; `retrofit` grafts retrieval onto a trained baseline."""

    scratch = "scratch"
    retrofit = "retrofit"


class Freeze(Enum):
    """Weights that a retrofit keeps fixed."""

    backbone = "backbone"
    none = "none"


class PointerStart(Enum):
    """Initial weight of matching tokens: `cautious` copies matches at once, `zero` learns to."""

    cautious = "cautious"
    zero = "zero"


class Curriculum(Enum):
    """Neighbours that a training step reads: `none` all k, `random` a random number up to k,
    `growing` from one up to k, reached in the last k-th of the steps.
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
        smeared_keys: each attention key is a learned, per-head mix of the keys of its own and the
            previous token; helps every small model, baseline included.
        pointer: mix the language model's distribution with attention over the neighbours' next
            tokens, through a learned gate.
        pointer_heads: distributions over the neighbours' positions that the pointer mixes; they
            share the attention's width.
        pointer_start: initial weight of a matching token in the pointer.
        match_bias: raise a position's score with the number of its preceding tokens that equal the
            text just read; false leaves plain attention.
        k_curriculum: how many of the k neighbours a training step reads.
        neighbour_dropout: share of chunks that lose their neighbours in a training step.
        backbone: for `retrofit`, a Hugging Face causal language model to graft on, by hub name,
            local folder or GGUF file; null grafts on the shared baseline. The backbone's sizes and
            tokenizer replace those of this configuration.
        freeze: for `retrofit`, whether the backbone's weights stay fixed.
        unfreeze_after: for `freeze=backbone`, steps of the second phase after which the backbone is
            trained too; null for never. The backbone then differs from the baseline.
        steps: for `retrofit`, optimiser steps of the second phase.
        lr: for `retrofit`, peak learning rate of the second phase.
        warmup_steps: for `retrofit`, warm-up of the second phase.
        optim: for `retrofit`, optimiser of the second phase (`optim@recipe.optim=muon`), at `lr`;
            null takes `optim`.
        further_steps: optimiser steps that train a backbone further without retrieval, all of its
            weights, with a warm-up of a tenth of them; 0 leaves it as it is.
        further_lr: peak learning rate of these steps. The optimiser's own is for weights that start
            from random values, and far too high for trained ones.
        val_every: for `retrofit`, steps of the second phase between validations; null validates
            four times, or every `trainer.val_every` steps if more often. Never changes the result.
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
    further_steps: int = setting(0, at_least=0, at_most=10**9, neutral=0)
    further_lr: float = setting(1e-4, above=0, identity=False)  # the run's key has it as `optim.lr`
    val_every: int | None = setting(None, at_least=1, identity=False)

    @property
    def unused(self) -> list[str]:
        """Settings without effect on this recipe's training."""
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
    """The training budget that the plain model shares with RETRO; `none` leaves the model out."""

    tokens = "tokens"
    flops = "flops"
    none = "none"


@dataclass
class PlainConfig:
    """The plain model: the baseline trained for longer, a separate run shared between comparisons.

    Of a run on a pretrained backbone it is that backbone, trained further without retrieval.

    Attributes:
        match: `tokens` trains the plain model for all of RETRO's steps, both phases of a retrofit
            included; `flops` for as many steps as RETRO's training FLOPs allow; `none` leaves it
            out.
        lr: peak learning rate, as tuned on validation; null takes `optim.lr`, and on a backbone
            the default of `recipe.further_lr`.
    """

    match: PlainMatch = PlainMatch.tokens
    lr: float | None = setting(None, above=0)

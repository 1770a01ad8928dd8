"""Group `recipe`: how the retrieval parts are trained, and the read-outs beyond the paper."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .optim import OptimConfig


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
    pointer_heads: int = 1
    pointer_start: PointerStart = PointerStart.cautious
    match_bias: bool = True
    k_curriculum: Curriculum = Curriculum.none
    neighbour_dropout: float = 0.0
    backbone: str | None = None
    freeze: Freeze = Freeze.backbone
    unfreeze_after: int | None = None
    steps: int = 80
    lr: float = 3e-3
    warmup_steps: int = 10
    optim: OptimConfig | None = None
    val_every: int | None = None

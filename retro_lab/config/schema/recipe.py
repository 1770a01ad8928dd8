"""Group `recipe`: how the retrieval parts are trained, and the read-outs beyond the paper."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Method(Enum):
    """`scratch` trains everything at once; `retrofit` grafts retrieval on a trained baseline."""

    scratch = "scratch"
    retrofit = "retrofit"


class Freeze(Enum):
    """Which weights a retrofit leaves alone."""

    backbone = "backbone"
    none = "none"


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
        backbone: for `retrofit`, a Hugging Face causal language model to graft on, by hub name,
            local folder or GGUF file; null grafts on the shared baseline. Its sizes and its
            tokenizer take the place of this configuration's.
        freeze: for `retrofit`, whether the backbone's weights stay fixed.
        steps: for `retrofit`, optimiser steps of the second phase.
        lr: for `retrofit`, peak learning rate of the second phase.
        warmup_steps: for `retrofit`, warm-up of the second phase.
    """

    name: str = "retrofit"
    method: Method = Method.retrofit
    smeared_keys: bool = True
    pointer: bool = True
    backbone: str | None = None
    freeze: Freeze = Freeze.backbone
    steps: int = 80
    lr: float = 3e-3
    warmup_steps: int = 10

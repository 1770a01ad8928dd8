"""Group `plain`: the model without retrieval that RETRO's gain is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
    lr: float | None = None

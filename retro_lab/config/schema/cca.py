"""Group `cca`: which decoder layers carry chunked cross-attention, counted from 1."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Placement(Enum):
    """Named sets of layers; `paper` is every third from 6."""

    first = "first"
    mid = "mid"
    last = "last"
    every_third = "every_third"
    paper = "paper"
    all = "all"


@dataclass
class CcaConfig:
    """Where CCA sits.

    Attributes:
        placement: a named set of layers.
        layers: an explicit list, counted from 1, which overrides `placement`.
    """

    placement: Placement = Placement.mid
    layers: list[int] | None = None


def resolve_layers(cca: CcaConfig, num_layers: int) -> tuple[int, ...]:
    """Decoder layers with CCA, counted from 1, sorted.

    Source: RETRO, section 2.5 for `paper`; Table 13 for the single placements. Table 10 lets large
    models begin at layer 9, but the published parameter counts fit section 2.5 alone.
    """
    if cca.layers is not None:
        return tuple(sorted(set(cca.layers)))
    middle = (num_layers + 1) // 2
    return {
        Placement.first: (1,),
        Placement.mid: (middle,),
        Placement.last: (num_layers,),
        Placement.every_third: tuple(range(min(3, num_layers), num_layers + 1, 3)),
        Placement.paper: tuple(range(6, num_layers + 1, 3)),
        Placement.all: tuple(range(1, num_layers + 1)),
    }[cca.placement]

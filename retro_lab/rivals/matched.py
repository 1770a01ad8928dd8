"""Plain language models of RETRO's size: as many parameters, or as many FLOPs a token.

Both are the run's baseline made deeper by whole blocks of its own shape, as many as fit, and then
wider in all feed-forward blocks by what is left, so that the match is exact to one inner unit.
Width, heads, vocabulary, data and tokens stay. Linear in the inner width F and the number of
layers L, with a the cost of a layer without its feed-forward block and c of one inner unit:

    cost(L, F) = rest + L * (a + c * F)

Parameters are all that are learned, RETRO's encoder, CCA, pointer and token tables included.
FLOPs are those of a forward pass over a whole window, encoder and CCA included, by scored token;
training takes three times as many for both, so equal FLOPs a token are equal training FLOPs on the
same tokens. A retrofit has read the tokens of its baseline and its own, and so do its rivals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from retro_lab.nn import Retro, RetroConfig


@dataclass(frozen=True)
class Match:
    """A baseline of equal cost, and the arithmetic that led to it.

    Attributes:
        num_layers: its decoder blocks.
        d_ff: inner width of their feed-forward blocks.
        cost: what it has of parameters or FLOPs a token.
        target: what RETRO has.
        original: what RETRO's own baseline has.
        layer: cost of one more block of the baseline's shape.
        unit: cost of one more inner unit in every block of the new model.
    """

    num_layers: int
    d_ff: int
    cost: int
    target: int
    original: int
    layer: int
    unit: int

    @property
    def arithmetic(self) -> dict[str, int]:
        """All of it, for the record."""
        return asdict(self)


def parameters(config: RetroConfig) -> int:
    """Learned numbers of a model."""
    with torch.device("meta"):
        model = Retro(config)
    return sum(parameter.numel() for parameter in model.parameters())


def matched(retro: RetroConfig, cost: Callable[[RetroConfig], int]) -> Match:
    """The plain model whose cost is nearest to RETRO's.

    Args:
        retro: with retrieval.
        cost: linear in layers and inner width, as `parameters` is.
    """
    plain, target = retro.baseline, cost(retro)

    def of(num_layers: int, d_ff: int) -> int:
        return cost(replace(plain, num_layers=num_layers, d_ff=d_ff))

    original = of(plain.num_layers, plain.d_ff)
    layer = of(plain.num_layers + 1, plain.d_ff) - original
    layers = plain.num_layers + max(0, target - original) // layer
    start = of(layers, plain.d_ff)
    unit = of(layers, plain.d_ff + 1) - start
    d_ff = max(1, plain.d_ff + round((target - start) / unit))
    return Match(layers, d_ff, of(layers, d_ff), target, original, layer, unit)

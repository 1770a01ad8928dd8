"""Language models without retrieval of RETRO's size: equal parameters, or equal FLOPs a token.

Both are the run's baseline, first deepened by as many whole blocks as fit, then widened in all
feed-forward blocks, so that the match is exact to one inner unit. Model width, heads, vocabulary,
data and training tokens stay the same. With L layers of inner width F, a the cost of a layer
without its feed-forward block, and c the cost of one inner unit:

    cost(L, F) = rest + L * (a + c * F)

Parameters are all learned ones, including RETRO's encoder, CCA, pointer and embeddings. FLOPs are
of a forward pass over a whole window, including encoder and CCA, divided by its tokens. Training
takes three times as many for both models, so equal FLOPs a token mean equal training FLOPs. Rivals
of a retrofit train on as many tokens as its baseline and the retrofit together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from retro_lab.nn import Retro, RetroConfig


@dataclass(frozen=True)
class Match:
    """A model of equal cost, with the numbers behind the match.

    Attributes:
        num_layers: decoder blocks.
        d_ff: inner width of the feed-forward blocks.
        cost: of this model, in parameters or FLOPs a token.
        target: cost of RETRO.
        original: cost of RETRO's baseline.
        layer: cost of one more block of the baseline's shape.
        unit: cost of one more inner unit in every block of this model.
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
        """All fields as a dict, for rivals.json."""
        return asdict(self)


def parameters(config: RetroConfig) -> int:
    """Number of learned parameters of a model."""
    with torch.device("meta"):
        model = Retro(config)
    return sum(parameter.numel() for parameter in model.parameters())


def matched(retro: RetroConfig, cost: Callable[[RetroConfig], int]) -> Match:
    """The model without retrieval whose cost is nearest to RETRO's.

    Args:
        retro: configuration with retrieval.
        cost: linear in layers and in inner width, such as `parameters`.
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

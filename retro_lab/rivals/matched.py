"""Language models without retrieval of RETRO's size: equal parameters, or equal FLOPs a token.

The first two are the run's baseline, first deepened by as many whole blocks as fit, then widened in
all feed-forward blocks, so that the match is exact to one inner unit. Model width, heads,
vocabulary, data and training tokens stay the same. With L layers of inner width F, a the cost of a
layer without its feed-forward block, and c the cost of one inner unit:

    cost(L, F) = rest + L * (a + c * F)

The third is the baseline as it is, with a table of hashed n-grams that has as many rows as fit.

Parameters are all learned ones, including RETRO's encoder, CCA, pointer and embeddings. FLOPs are
of a forward pass over a whole window, including encoder and CCA, divided by its tokens. Training
takes three times as many for both models, so equal FLOPs a token mean equal training FLOPs. Rivals
of a retrofit train on as many tokens as its baseline and the retrofit together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from retro_lab.config.schema import ModelConfig, NgramTableConfig
from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.ngram_table import NgramTable


@dataclass(frozen=True)
class Match:
    """A deeper and wider model of equal cost, with the numbers behind the match.

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

    def resized(self, model: ModelConfig) -> ModelConfig:
        """The settings of RETRO's model at this size."""
        return replace(model, num_layers=self.num_layers, d_ff=self.d_ff)


@dataclass(frozen=True)
class TableMatch:
    """RETRO's baseline with an n-gram table of as many parameters as retrieval has.

    Attributes:
        table: its sizes.
        cost: parameters of this model.
        target: of RETRO.
        original: of RETRO's baseline.
        unit: of one more row for each hash.
    """

    table: NgramTableConfig
    cost: int
    target: int
    original: int
    unit: int

    @property
    def arithmetic(self) -> dict[str, Any]:
        """All fields as a dict, for rivals.json."""
        return asdict(self)

    def resized(self, model: ModelConfig) -> ModelConfig:
        """The settings of RETRO's model with this table."""
        return replace(model, ngram_table=self.table)


def parameters(config: RetroConfig) -> int:
    """Number of learned parameters of a model."""
    with torch.device("meta"):
        model = Retro(config, NgramTable)
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


def matched_table(retro: RetroConfig) -> TableMatch:
    """The baseline with the n-gram table that brings it nearest to RETRO's parameters.

    Args:
        retro: configuration with retrieval; a table that it has itself is replaced.
    """
    table, target = NgramTableConfig(), parameters(retro)
    table.layer = min(table.layer, retro.num_layers)
    plain = replace(
        retro.baseline,
        ngram_width=table.width,
        ngram_longest=table.longest,
        ngram_heads=table.heads,
        ngram_layer=table.layer,
    )
    first = parameters(replace(plain, ngram_rows=1))
    unit = parameters(replace(plain, ngram_rows=2)) - first
    table.rows = max(1, 1 + round((target - first) / unit))
    cost = parameters(replace(plain, ngram_rows=table.rows))
    return TableMatch(table, cost, target, parameters(replace(plain, ngram_rows=0)), unit)

"""Groups `model` (decoder and neighbour encoder) and `cca` (the layers that read neighbours).

Two ablations of the paper (RETRO, Table 13) are encoder settings: `model.encoder.cca_layers=[]`
removes query conditioning, `model.encoder.num_layers=6` deepens the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from ..errors import UserError, problem
from .setting import setting

_WIDEST, _DEEPEST, _MOST_HEADS, _WIDEST_HEAD = 2**16, 2**10, 2**10, 2**12


class PositionKind(Enum):
    """Position encodings of attention.

    | kind | learned parameters |
    | --- | --- |
    | rotary | none |
    | relative | a linear map of sinusoids of the distance, the paper's (Transformer-XL) |
    | bucket_linear | a bias a head for every distance up to 256 |
    | bucket_log | a bias a head for 32 buckets that widen with distance (T5) |
    | none | none; attention ignores distance |
    """

    rotary = "rotary"
    relative = "relative"
    bucket_linear = "bucket_linear"
    bucket_log = "bucket_log"
    none = "none"


class ValueKind(Enum):
    """The part of a retrieved text that the model reads: N, F or [N, F] in the paper's letters."""

    both = "both"
    neighbour = "neighbour"
    continuation = "continuation"


class FeedForwardKind(Enum):
    """Feed-forward block: `gelu` with two matrices (the paper), `swiglu` with three (Llama)."""

    gelu = "gelu"
    swiglu = "swiglu"


@dataclass
class EncoderConfig:
    """The bidirectional neighbour encoder.

    Attributes:
        d_model: width of the residual stream; the feed-forward block is four times as wide.
        num_layers: number of blocks.
        cca_layers: encoder layers, counted from 1, that cross-attend to the retrieving chunk.
        num_heads: attention heads; null takes the decoder's number.
        head_dim: width of a head; null takes the decoder's.
    """

    d_model: int = setting(128, at_least=1, at_most=_WIDEST)
    num_layers: int = setting(2, at_least=1, at_most=_DEEPEST)
    cca_layers: list[int] = field(default_factory=lambda: [1])
    num_heads: int | None = setting(None, at_least=1, at_most=_MOST_HEADS)
    head_dim: int | None = setting(None, at_least=1, at_most=_WIDEST_HEAD)

    def problems(self, prefix: str) -> Iterator[UserError]:
        depth = self.num_layers
        if depth >= 1 and not all(1 <= layer <= depth for layer in self.cca_layers):
            yield problem(
                f"{prefix}cca_layers",
                self.cca_layers,
                f"the encoder's layers count from 1 to {depth}",
                f"{prefix}cca_layers=[1]",
            )


@dataclass
class NgramTableConfig:
    """A learned table of hashed token n-grams, read in an early layer; off by default.

    Attributes:
        rows: of the table for each hash; 0 for no table.
        width: of a row.
        longest: tokens of the longest n-gram; bigrams are always there.
        heads: hashes for each number of tokens.
        layer: decoder layer before which it is read, counted from 1.
    """

    rows: int = setting(0, at_least=0, at_most=2**30)
    width: int = setting(16, at_least=1, at_most=_WIDEST)
    longest: int = setting(3, at_least=2, at_most=8)
    heads: int = setting(4, at_least=1, at_most=64)
    layer: int = setting(2, at_least=1, at_most=_DEEPEST)


@dataclass
class ModelConfig:
    """A pre-norm decoder without biases; num_heads * head_dim may differ from d_model.

    Attributes:
        name: the option's name, used in run directories.
        d_model: width of the decoder.
        num_layers: decoder blocks.
        num_heads: attention heads of a decoder block.
        head_dim: width of a head.
        d_ff: inner width of the decoder's feed-forward blocks.
        ff: type of all feed-forward blocks.
        positions: position encoding in decoder, encoder and the attention between them.
        dropout: probability on residual branches and embeddings while training.
        share_embeddings: one token table for decoder and encoder (needs equal widths).
        cca_positions: whether cross-attention uses positions, in decoder and encoder.
        value: the part of a retrieved text that is read.
        gated_cca: scale CCA by tanh of a learned number that starts at 0.
        neighbour_noise: Gaussian noise on neighbours' token embeddings while training, as a
            multiple of their mean absolute value; 0.196 in Retro-li.
        ngram_table: hashed n-grams of the text so far, read in an early layer.
    """

    name: str = "tiny"
    d_model: int = setting(128, at_least=1, at_most=_WIDEST)
    num_layers: int = setting(4, at_least=1, at_most=_DEEPEST)
    num_heads: int = setting(4, at_least=1, at_most=_MOST_HEADS)
    head_dim: int = setting(32, at_least=1, at_most=_WIDEST_HEAD)
    d_ff: int = setting(512, at_least=1, at_most=2**20)
    ff: FeedForwardKind = FeedForwardKind.gelu
    positions: PositionKind = PositionKind.rotary
    dropout: float = setting(0.0, at_least=0, below=1)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    share_embeddings: bool = False
    cca_positions: bool = True
    value: ValueKind = ValueKind.both
    gated_cca: bool = False
    neighbour_noise: float = setting(0.0, at_least=0)
    ngram_table: NgramTableConfig = setting(NgramTableConfig(), neutral=NgramTableConfig())

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.ngram_table.rows and self.ngram_table.layer > self.num_layers:
            yield problem(
                f"{prefix}ngram_table.layer",
                self.ngram_table.layer,
                f"layers count from 1 to {self.num_layers} ({prefix}num_layers)",
                f"{prefix}ngram_table.layer={self.num_layers}",
            )
        heads = {"head_dim": self.head_dim, "encoder.head_dim": self.encoder.head_dim}
        for name, head_dim in heads.items():
            if self.positions is PositionKind.rotary and (head_dim or 0) % 2:
                yield problem(
                    f"{prefix}{name}",
                    head_dim,
                    "rotary positions turn pairs of dimensions, so it must be even",
                    f"{prefix}{name}={(head_dim or 0) + 1}, or {prefix}positions=relative",
                )


# Settings of ModelConfig that a pretrained backbone determines.
BACKBONE_SETTINGS = ("d_model", "num_layers", "num_heads", "head_dim", "d_ff")
# Settings of ModelConfig without effect in a model without retrieval.
RETRIEVAL_SETTINGS = (
    "encoder",
    "share_embeddings",
    "cca_positions",
    "value",
    "gated_cca",
    "neighbour_noise",
)


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
    """The decoder layers with CCA.

    Attributes:
        placement: a named set of layers.
        layers: explicit list of layers, counted from 1; overrides `placement`.
    """

    placement: Placement = Placement.mid
    layers: list[int] | None = None

    def placed(self, num_layers: int) -> tuple[int, ...]:
        """The layers with CCA in a decoder of `num_layers`, counted from 1, sorted.

        Source: RETRO, section 2.5 for `paper`; Table 13 for the single placements. Table 10 lets
        large models begin at layer 9, but the published parameter counts fit section 2.5 alone.
        """
        if self.layers is not None:
            return tuple(sorted(set(self.layers)))
        middle = (num_layers + 1) // 2
        return {
            Placement.first: (1,),
            Placement.mid: (middle,),
            Placement.last: (num_layers,),
            Placement.every_third: tuple(range(min(3, num_layers), num_layers + 1, 3)),
            Placement.paper: tuple(range(6, num_layers + 1, 3)),
            Placement.all: tuple(range(1, num_layers + 1)),
        }[self.placement]

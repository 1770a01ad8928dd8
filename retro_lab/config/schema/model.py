"""Group `model`: decoder and neighbour encoder, their sizes and their ablations.

Two of the paper's ablations (RETRO, Table 13) are settings of the encoder: without query
conditioning is `model.encoder.cca_layers=[]`, a deeper encoder `model.encoder.num_layers=6`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class PositionKind(Enum):
    """How attention knows distances.

    | kind | what is learned |
    | --- | --- |
    | rotary | nothing |
    | relative | a linear map of sinusoids of the distance, the paper's (Transformer-XL) |
    | bucket_linear | a bias a head for every distance up to 256 |
    | bucket_log | a bias a head for 32 buckets that widen with distance (T5) |
    | none | attention knows no distances |
    """

    rotary = "rotary"
    relative = "relative"
    bucket_linear = "bucket_linear"
    bucket_log = "bucket_log"
    none = "none"


class ValueKind(Enum):
    """Which part of a retrieved text the model reads: N, F or [N, F] in the paper's letters."""

    both = "both"
    neighbour = "neighbour"
    continuation = "continuation"


class FeedForwardKind(Enum):
    """Two matrices around a GELU as in the paper, or three as in Llama."""

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

    d_model: int = 128
    num_layers: int = 2
    cca_layers: list[int] = field(default_factory=lambda: [1])
    num_heads: int | None = None
    head_dim: int | None = None


@dataclass
class ModelConfig:
    """A pre-norm decoder without biases; heads times head_dim need not equal d_model.

    Attributes:
        name: the option's name, used in run directories.
        d_ff: inner width of the decoder's feed-forward blocks.
        ff: kind of all feed-forward blocks.
        positions: how attention knows distances, in decoder, encoder and between them.
        dropout: probability on residual branches and embeddings while training.
        share_embeddings: one token table for decoder and encoder (needs equal widths).
        cca_positions: whether cross-attention, in decoder and encoder, knows distances.
        value: which part of a retrieved text is read.
        gated_cca: scale CCA by tanh of a learned number that starts at 0.
        neighbour_noise: Gaussian noise on neighbours' token embeddings while training, as a
            multiple of their mean absolute value; 0.196 in Retro-li.
    """

    name: str = "tiny"
    d_model: int = 128
    num_layers: int = 4
    num_heads: int = 4
    head_dim: int = 32
    d_ff: int = 512
    ff: FeedForwardKind = FeedForwardKind.gelu
    positions: PositionKind = PositionKind.rotary
    dropout: float = 0.0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    share_embeddings: bool = False
    cca_positions: bool = True
    value: ValueKind = ValueKind.both
    gated_cca: bool = False
    neighbour_noise: float = 0.0


# Settings of ModelConfig that a model without retrieval does not have.
RETRIEVAL_SETTINGS = (
    "encoder",
    "share_embeddings",
    "cca_positions",
    "value",
    "gated_cca",
    "neighbour_noise",
)

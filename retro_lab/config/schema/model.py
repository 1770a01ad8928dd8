"""Group `model`: sizes of the decoder and of the neighbour encoder (RETRO, section 2.5)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class EncoderConfig:
    """The bidirectional neighbour encoder.

    Attributes:
        d_model: width of the residual stream.
        num_layers: number of blocks.
        cca_layers: encoder layers, counted from 1, that cross-attend to the retrieving chunk.
    """

    d_model: int = 128
    num_layers: int = 2
    cca_layers: list[int] = field(default_factory=lambda: [1])


@dataclass
class ModelConfig:
    """A pre-norm decoder with rotary positions; heads times head_dim need not equal d_model.

    Attributes:
        name: the option's name, used in run directories.
        d_ff: inner width of the two-matrix feed-forward block, decoder and encoder.
        dropout: probability on residual branches and embeddings while training.
        share_embeddings: one token table for decoder and encoder (needs equal widths).
    """

    name: str = "tiny"
    d_model: int = 128
    num_layers: int = 4
    num_heads: int = 4
    head_dim: int = 32
    d_ff: int = 512
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    dropout: float = 0.0
    share_embeddings: bool = False

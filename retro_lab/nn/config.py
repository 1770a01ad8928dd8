"""The model's own configuration: everything that fixes its parameters and its arithmetic."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class RetroConfig:
    """Sizes and switches of a RETRO; `cca_layers=()` is the plain language model.

    Attributes:
        vocab_size: token ids, `pad_id` included.
        d_model: decoder width D.
        num_layers: decoder blocks.
        num_heads: attention heads, decoder and encoder alike.
        head_dim: width P of a head; heads times head_dim need not equal d_model.
        d_ff: inner width of the feed-forward blocks.
        cca_layers: decoder layers with chunked cross-attention, counted from 1.
        encoder_d_model: encoder width E.
        encoder_num_layers: encoder blocks.
        encoder_cca_layers: encoder layers that read the retrieving chunk, counted from 1.
        chunk_size: tokens M of a chunk.
        neighbour_length: tokens R of a neighbour with its continuation.
        pad_id: id of padding; a missing neighbour is a row of it.
        dropout: probability on embeddings and residual branches, in training.
        share_embeddings: decoder and encoder use one token table.
        smeared_keys: attention keys mix a token with its predecessor, per head.
        pointer: mix in a distribution over the neighbours' next tokens.
        rotary_base: wavelength base of the rotary positions.

    Raises:
        ValueError: for sizes that do not fit together.
    """

    vocab_size: int
    d_model: int
    num_layers: int
    num_heads: int
    head_dim: int
    d_ff: int
    cca_layers: tuple[int, ...] = ()
    encoder_d_model: int = 0
    encoder_num_layers: int = 0
    encoder_cca_layers: tuple[int, ...] = ()
    chunk_size: int = 64
    neighbour_length: int = 128
    pad_id: int = 0
    dropout: float = 0.0
    share_embeddings: bool = False
    smeared_keys: bool = False
    pointer: bool = False
    rotary_base: float = 10_000.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cca_layers", tuple(sorted(set(self.cca_layers))))
        object.__setattr__(self, "encoder_cca_layers", tuple(sorted(set(self.encoder_cca_layers))))
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        if not all(1 <= p <= self.num_layers for p in self.cca_layers):
            raise ValueError(f"cca_layers {self.cca_layers} lie outside 1..{self.num_layers}")
        if not self.has_retrieval:
            return
        if self.encoder_d_model < 1 or self.encoder_num_layers < 1:
            raise ValueError("a model with CCA needs encoder_d_model and encoder_num_layers")
        if not all(1 <= p <= self.encoder_num_layers for p in self.encoder_cca_layers):
            raise ValueError(
                f"encoder_cca_layers {self.encoder_cca_layers} lie outside "
                f"1..{self.encoder_num_layers}"
            )
        if self.share_embeddings and self.encoder_d_model != self.d_model:
            raise ValueError("share_embeddings needs encoder_d_model == d_model")

    @property
    def has_retrieval(self) -> bool:
        """Whether the model has an encoder and CCA at all."""
        return bool(self.cca_layers)

    @property
    def baseline(self) -> RetroConfig:
        """The same decoder without any retrieval part."""
        return RetroConfig(
            **asdict(self)
            | {
                "cca_layers": (),
                "encoder_d_model": 0,
                "encoder_num_layers": 0,
                "encoder_cca_layers": (),
                "share_embeddings": False,
                "pointer": False,
            }
        )

"""The model's configuration, which determines its parameters and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

PositionKind = Literal["rotary", "relative", "bucket_linear", "bucket_log", "none"]
ValueKind = Literal["both", "neighbour", "continuation"]
FeedForwardKind = Literal["gelu", "swiglu"]
PointerStart = Literal["cautious", "zero"]


@dataclass(frozen=True)
class RetroConfig:
    """Sizes and switches of a RETRO; `cca_layers=()` gives the plain language model.

    Attributes:
        vocab_size: token ids, including `pad_id`.
        d_model: decoder width D.
        num_layers: decoder blocks.
        num_heads: attention heads of decoder and CCA.
        head_dim: width P of a head; num_heads * head_dim may differ from d_model.
        d_ff: inner width of the decoder's feed-forward blocks; the encoder's is 4E.
        cca_layers: decoder layers with chunked cross-attention, counted from 1.
        encoder_d_model: encoder width E.
        encoder_num_layers: encoder blocks.
        encoder_cca_layers: encoder layers that read the retrieving chunk, counted from 1; ()
            disables query conditioning.
        encoder_num_heads: attention heads of the encoder; 0 takes the decoder's.
        encoder_head_dim: width of an encoder head; 0 takes the decoder's.
        chunk_size: tokens M of a chunk.
        neighbour_length: tokens R of a neighbour with its continuation.
        pad_id: id of padding; a missing neighbour is a row of it.
        dropout: probability on embeddings and residual branches, in training.
        share_embeddings: decoder and encoder use one token table.
        smeared_keys: attention keys mix a token with its predecessor, per head.
        pointer: mix in a distribution over the neighbours' next tokens.
        pointer_heads: distributions over positions that the pointer mixes, sharing its width.
        pointer_start: initial weight of a matching token, see `Pointer.start`.
        match_bias: raise a position's score with the number of its preceding tokens that match.
        positions: position encoding of attention, see `positions.py`.
        rotary_base: wavelength base of the rotary positions.
        cca_positions: whether cross-attention in decoder and encoder uses positions.
        value: the part of a retrieved text that is read: neighbour chunk, continuation, or both.
        gated_cca: scale CCA's update by tanh of a learned number that starts at 0.
        neighbour_noise: in training, standard deviation of the noise on the neighbours' token
            embeddings, as a multiple of their mean absolute value (Retro-li).
        ff: the feed-forward block: two matrices around a GELU, or three as in Llama.
        ngram_rows: rows of the hashed n-gram table for each hash; 0 for no table.
        ngram_longest: tokens of the longest n-gram, the orders being 2 and up to it.
        ngram_width, ngram_heads: width of a row, and hashes an order.
        ngram_layer: layer before which the table is read, counted from 1.

    Raises:
        ValueError: the sizes do not fit together.
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
    encoder_num_heads: int = 0
    encoder_head_dim: int = 0
    chunk_size: int = 64
    neighbour_length: int = 128
    pad_id: int = 0
    dropout: float = 0.0
    share_embeddings: bool = False
    smeared_keys: bool = False
    pointer: bool = False
    pointer_heads: int = 1
    pointer_start: PointerStart = "cautious"
    match_bias: bool = True
    rotary_base: float = 10_000.0
    positions: PositionKind = "rotary"
    cca_positions: bool = True
    value: ValueKind = "both"
    gated_cca: bool = False
    neighbour_noise: float = 0.0
    ff: FeedForwardKind = "gelu"
    ngram_rows: int = 0
    ngram_width: int = 16
    ngram_longest: int = 3
    ngram_heads: int = 4
    ngram_layer: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "cca_layers", tuple(sorted(set(self.cca_layers))))
        object.__setattr__(self, "encoder_cca_layers", tuple(sorted(set(self.encoder_cca_layers))))
        for name, kinds in _KINDS.items():
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"{name} must be one of {get_args(kinds)}")
        if self.positions == "rotary":
            self._check_even("head_dim")
        if not all(1 <= p <= self.num_layers for p in self.cca_layers):
            raise ValueError(f"cca_layers {self.cca_layers} lie outside 1..{self.num_layers}")
        if not self.has_retrieval:
            return
        if self.encoder_d_model < 1 or self.encoder_num_layers < 1:
            raise ValueError("a model with CCA needs encoder_d_model and encoder_num_layers")
        if outside := [p for p in self.encoder_cca_layers if not 1 <= p <= self.encoder_num_layers]:
            raise ValueError(f"encoder_cca_layers {outside} not in 1..{self.encoder_num_layers}")
        if self.positions == "rotary":
            self._check_even("encoder_head_dim")
        if self.value == "continuation" and self.neighbour_length <= self.chunk_size:
            raise ValueError("value='continuation' needs neighbours with a continuation")
        if self.num_heads * self.head_dim % self.pointer_heads:
            raise ValueError("pointer_heads must divide num_heads * head_dim")
        if self.share_embeddings and self.encoder_d_model != self.d_model:
            raise ValueError("share_embeddings needs encoder_d_model == d_model")

    def _check_even(self, name: str) -> None:
        if getattr(self, name) % 2:
            raise ValueError(f"{name} must be even for rotary positions: {getattr(self, name)}")

    @property
    def encoder_heads(self) -> tuple[int, int]:
        """Number and width of the encoder's heads."""
        return self.encoder_num_heads or self.num_heads, self.encoder_head_dim or self.head_dim

    @property
    def cross_positions(self) -> PositionKind:
        """Positions of CCA and of the encoder's cross-attention."""
        return self.positions if self.cca_positions else "none"

    @property
    def has_retrieval(self) -> bool:
        """Whether the model has an encoder and CCA."""
        return bool(self.cca_layers)

    @property
    def baseline(self) -> RetroConfig:
        """The same decoder without any retrieval part."""
        return replace(self, **{f.name: f.default for f in fields(self) if f.name in _OF_RETRIEVAL})


_KINDS = {
    "positions": PositionKind,
    "value": ValueKind,
    "ff": FeedForwardKind,
    "pointer_start": PointerStart,
}
_OF_RETRIEVAL = {
    "cca_layers",
    "encoder_d_model",
    "encoder_num_layers",
    "encoder_cca_layers",
    "encoder_num_heads",
    "encoder_head_dim",
    "neighbour_length",
    "share_embeddings",
    "pointer",
    "pointer_heads",
    "pointer_start",
    "match_bias",
    "cca_positions",
    "value",
    "gated_cca",
    "neighbour_noise",
}

"""Floating-point operations of a forward pass, computed from sizes.

A matrix product counts two operations for each multiplication. Attention counts every pair of
positions, as is customary, although causal attention may skip half. Norms, softmax and position
tables are left out. A training step costs three forward passes.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import FeedForwardKind, RetroConfig

PASSES_PER_STEP = 3  # forward, and twice as much backward


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass, by part.

    Attributes:
        decoder: self-attention and feed-forward blocks, and the products of an n-gram table.
        cca: chunked cross-attention, including keys and values of the neighbours.
        encoder: the neighbour encoder.
        head: the output layer over the vocabulary.
        pointer: the pointer read-out.
    """

    decoder: int
    cca: int
    encoder: int
    head: int
    pointer: int

    @property
    def forward(self) -> int:
        """All operations of a forward pass."""
        return self.decoder + self.cca + self.encoder + self.head + self.pointer

    @property
    def step(self) -> int:
        """A training step: forward and backward."""
        return PASSES_PER_STEP * self.forward


def count_flops(config: RetroConfig, batch: int, length: int, num_neighbours: int) -> Flops:
    """Operations for `batch` sequences of `length` tokens with K neighbours a chunk, 0 for none.

    Args:
        config: with or without retrieval.
        batch: B.
        length: N.
        num_neighbours: K.
    """
    width, inner = config.d_model, config.num_heads * config.head_dim
    tokens = batch * length
    decoder = config.num_layers * (
        _linear(tokens, width, 3 * inner)
        + _attention(tokens, length, inner)
        + _linear(tokens, inner, width)
        + _feed_forward(config.ff, tokens, width, config.d_ff)
    )
    if config.ngram_rows:
        read = (config.ngram_longest - 1) * config.ngram_heads * config.ngram_width
        decoder += 2 * _linear(tokens, read, width)
    head = _linear(tokens, width, config.vocab_size)
    num_chunks = batch * (length // config.chunk_size)
    if not config.has_retrieval or not num_neighbours or not num_chunks:
        return Flops(decoder, 0, 0, head, 0)
    attending = num_chunks * config.chunk_size
    places = num_neighbours * _read_length(config)
    cca = len(config.cca_layers) * (
        _linear(attending, width, inner)
        + _linear(num_chunks * places, config.encoder_d_model, 2 * inner)
        + _attention(attending, places, inner)
        + _linear(attending, inner, width)
    )
    pointer = 0
    if config.pointer:
        pointer = (
            _linear(attending, width, inner + 1)
            + _linear(num_chunks * places, config.encoder_d_model, inner)
            + _linear(attending, inner, places)
        )
    return Flops(decoder, cca, _encoder(config, num_chunks, num_neighbours), head, pointer)


def _encoder(config: RetroConfig, num_chunks: int, num_neighbours: int) -> int:
    heads, head_dim = config.encoder_heads
    width, inner, length = config.encoder_d_model, heads * head_dim, _read_length(config)
    tokens = num_chunks * num_neighbours * length
    layer = (
        _linear(tokens, width, 3 * inner)
        + _attention(tokens, length, inner)
        + _linear(tokens, inner, width)
        + _feed_forward(config.ff, tokens, width, 4 * width)
    )
    condition = (
        _linear(tokens, width, inner)
        + _linear(num_chunks * config.chunk_size, config.d_model, 2 * inner)
        + _attention(tokens, config.chunk_size, inner)
        + _linear(tokens, inner, width)
    )
    return config.encoder_num_layers * layer + len(config.encoder_cca_layers) * condition


def _read_length(config: RetroConfig) -> int:
    """Number of a neighbour's tokens that are read."""
    match config.value:
        case "both":
            return config.neighbour_length
        case "neighbour":
            return min(config.chunk_size, config.neighbour_length)
        case "continuation":
            return config.neighbour_length - config.chunk_size


def _linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs


def _attention(queries: int, keys: int, inner: int) -> int:
    """Scores and weighted sums of `queries` rows that each see `keys` rows."""
    return 2 * _linear(queries, inner, keys)


def _feed_forward(kind: FeedForwardKind, rows: int, width: int, inner: int) -> int:
    return (2 if kind == "gelu" else 3) * _linear(rows, width, inner)

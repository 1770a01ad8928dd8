"""The neighbour encoder: bidirectional, and conditioned on the chunk that retrieved."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .attention import CrossAttention, SelfAttention
from .chunks import RetrievedChunks
from .config import RetroConfig
from .layers import RMSNorm, add_feed_forward, feed_forward, run
from .positions import Axis, PositionKind, Positions, build_positions


def noisy(embedded: Tensor, noise: float) -> Tensor:
    """Token embeddings with Gaussian noise, `noise` times their mean absolute value (Retro-li)."""
    if not noise:
        return embedded
    scale = noise * embedded.detach().abs().mean()
    return embedded + scale * torch.randn_like(embedded)


class EncoderBlock(nn.Module):
    """Bidirectional attention, cross-attention to the retrieving chunk if chosen, feed-forward."""

    def __init__(self, config: RetroConfig, layer: int) -> None:
        super().__init__()
        width, (heads, head_dim) = config.encoder_d_model, config.encoder_heads

        def positions(kind: PositionKind) -> Positions:
            return build_positions(kind, width, heads, head_dim, config.rotary_base)

        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(
            width, heads, head_dim, config.smeared_keys, positions(config.positions)
        )
        self.conditioned = layer in config.encoder_cca_layers
        if self.conditioned:
            self.condition_norm = RMSNorm(width)
            self.condition = CrossAttention(
                width,
                config.d_model,
                heads,
                head_dim,
                smeared=False,
                positions=positions(config.cross_positions),
            )
        self.ff_norm = RMSNorm(width)
        self.ff = feed_forward(config.ff, width, 4 * width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        tables: Any,
        mask: Tensor,
        retrieving: Tensor,
        start: int,
        known: Tensor | None,
    ) -> Tensor:
        """One block over neighbours.

        Args:
            x: [X, R, E] with X = B*U*K.
            tables: of the self-attention's positions.
            mask: [X, 1, 1, R], True at real tokens.
            retrieving: [B*U, M, D] activations of the chunks that retrieved.
            start: offset of the first token in the retrieved text.
            known: [B*U, 1, 1, M], False at padding of `retrieving`; None if there is none.
        """
        x = self.attention(x, self.attention_norm, self.dropout, tables, mask)
        if self.conditioned:
            # The retrieving chunk is projected once, for all of its neighbours.
            rows = x.view(len(retrieving), -1, x.shape[-1])
            across = self.condition.positions.tables(
                Axis(x.shape[1], start, repeats=rows.shape[1] // x.shape[1]),
                Axis(retrieving.shape[1]),
                x,
            )
            norm, dropout = self.condition_norm, self.dropout
            rows = self.condition(rows, retrieving, across, known, norm=norm, dropout=dropout)
            x = rows.view_as(x)
        return add_feed_forward(x, self.ff_norm, self.ff, self.dropout)


class Copies(NamedTuple):
    """Neighbours that are the same.

    Attributes:
        one: [D], number of one of each of the distinct neighbours.
        which: [X], number of each neighbour among the distinct.
    """

    one: Tensor
    which: Tensor


class NeighbourEncoder(nn.Module):
    """ENCODER(RET(C_u), H_u) of RETRO, Algorithm 1; weights shared over chunks and neighbours."""

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            EncoderBlock(config, layer) for layer in range(1, config.encoder_num_layers + 1)
        )
        self.norm = RMSNorm(config.encoder_d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.checkpointing = False
        # Without query conditioning nothing but chance tells two copies of a neighbour apart.
        self.by_text_alone = not config.encoder_cca_layers
        self.by_chance = config.dropout > 0 or config.neighbour_noise > 0

    def forward(self, embedded: Tensor, retrieving: Tensor, chunks: RetrievedChunks) -> Tensor:
        """Encodes each neighbour on its own; copies of one just once where that gives the same.

        Args:
            embedded: [B, U, K, R, E] token embeddings of the neighbours.
            retrieving: [B, U, M, D] activations H_u of the chunks that retrieved them.
            chunks: masks and geometry.

        Returns:
            [B, U, K, R, E], normalised.
        """
        row, blocks = Axis(chunks.ids.shape[-1]), cast(list[EncoderBlock], list(self.blocks))
        tables = blocks[0].attention.positions.tables(row, row, embedded)
        x = self.dropout(embedded).flatten(0, 2)  # [X, R, E]
        source = retrieving.flatten(0, 1)  # [B*U, M, D]
        # A missing neighbour may look everywhere; nobody reads what it computes.
        missing = ~chunks.token_mask.any(-1, keepdim=True)
        mask = (chunks.token_mask | missing).flatten(0, 2)[:, None, None, :]
        known = None if chunks.known is None else chunks.known.flatten(0, 1)[:, None, None, :]
        copies = self._copies(chunks.ids.flatten(0, 2))
        if copies is not None:
            x, mask = x[copies.one], mask[copies.one]
        for block in blocks:
            x = run(self.checkpointing, block, x, tables, mask, source, chunks.start, known)
        x = self.norm(x)
        return (x if copies is None else x[copies.which]).view(*chunks.ids.shape, -1)

    def _copies(self, ids: Tensor) -> Copies | None:
        """Which of the neighbours [X, R] are the same; None where each is encoded for itself.

        On a GPU the host would have to wait for the answer in every step, and a compiled model
        wants fixed shapes.
        """
        if not self.by_text_alone or (self.training and self.by_chance):
            return None
        if ids.device.type != "cpu" or torch.compiler.is_compiling():
            return None
        distinct, which = ids.unique(dim=0, return_inverse=True)
        if len(distinct) == len(ids):
            return None
        one = which.new_empty(len(distinct)).index_copy_(0, which, torch.arange(len(ids)))
        return Copies(one, which)

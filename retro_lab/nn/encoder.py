"""The neighbour encoder: bidirectional, and conditioned on the chunk that retrieved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from .attention import CrossAttention, SelfAttention
from .chunks import RetrievedChunks
from .config import RetroConfig
from .layers import FeedForward, Rotary, rms_norm


class EncoderBlock(nn.Module):
    """Bidirectional attention, cross-attention to the retrieving chunk if chosen, feed-forward."""

    def __init__(self, config: RetroConfig, layer: int) -> None:
        super().__init__()
        width, heads, head_dim = config.encoder_d_model, config.num_heads, config.head_dim
        self.attention_norm = rms_norm(width)
        self.attention = SelfAttention(width, heads, head_dim, config.smeared_keys)
        self.conditioned = layer in config.encoder_cca_layers
        if self.conditioned:
            self.condition_norm = rms_norm(width)
            self.condition = CrossAttention(width, config.d_model, heads, head_dim, smeared=False)
        self.ff_norm = rms_norm(width)
        self.ff = FeedForward(width, 4 * width)


class NeighbourEncoder(nn.Module):
    """ENCODER(RET(C_u), H_u) of RETRO, Algorithm 1; weights shared over chunks and neighbours."""

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            EncoderBlock(config, layer) for layer in range(1, config.encoder_num_layers + 1)
        )
        self.norm = rms_norm(config.encoder_d_model)
        self.rotary = Rotary(config.head_dim, config.rotary_base)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, embedded: Tensor, retrieving: Tensor, chunks: RetrievedChunks) -> Tensor:
        """Encodes each neighbour on its own.

        Args:
            embedded: [B, U, K, R, E] token embeddings of the neighbours.
            retrieving: [B, U, M, D] activations H_u of the chunks that retrieved them.
            chunks: masks and geometry.

        Returns:
            [B, U, K, R, E], normalised.
        """
        batch, num_chunks, num_neighbours, length = chunks.ids.shape
        chunk_size = retrieving.shape[2]
        positions = torch.arange(length, device=embedded.device)
        own = self.rotary.table(positions)
        across = self.rotary.table(positions.repeat(num_neighbours))
        chunk_table = self.rotary.table(torch.arange(chunk_size, device=embedded.device))
        x = self.dropout(embedded).flatten(0, 2)  # [X, R, E], X = B*U*K
        source = retrieving.flatten(0, 1)  # [B*U, M, D]
        # A missing neighbour may look everywhere; nobody reads what it computes.
        missing = ~chunks.token_mask.any(-1, keepdim=True)
        mask = (chunks.token_mask | missing).flatten(0, 2)[:, None, None, :]
        for block in cast(Iterable[EncoderBlock], self.blocks):
            x = x + self.dropout(block.attention(block.attention_norm(x), own, mask))
            if block.conditioned:
                # The retrieving chunk is projected once, for all of its neighbours.
                rows = block.condition_norm(x).view(batch * num_chunks, num_neighbours * length, -1)
                update = block.condition(rows, source, across, chunk_table)
                x = x + self.dropout(update.view_as(x))
            x = x + self.dropout(block.ff(block.ff_norm(x)))
        return self.norm(x).view(batch, num_chunks, num_neighbours, length, -1)

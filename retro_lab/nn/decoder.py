"""The causal decoder: a GPT-like stack whose chosen layers carry CCA."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import SelfAttention
from .cca import ChunkedCrossAttention
from .chunks import RetrievedChunks
from .config import RetroConfig
from .cpu import fused_token
from .decode.cache import AttentionCache, HeldNeighbours, NewPlaces
from .layers import RMSNorm, add_feed_forward, feed_forward, suits_kernels
from .positions import build_positions


class DecoderBlock(nn.Module):
    """Causal attention, CCA if chosen, feed-forward; each pre-normed and residual."""

    def __init__(self, config: RetroConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        width, heads, head_dim = config.d_model, config.num_heads, config.head_dim
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(
            width,
            heads,
            head_dim,
            config.smeared_keys,
            build_positions(config.positions, width, heads, head_dim, config.rotary_base),
        )
        self.ff_norm = RMSNorm(width)
        self.ff = feed_forward(config.ff, width, config.d_ff)
        self.dropout = nn.Dropout(config.dropout)
        self.cca: ChunkedCrossAttention | None = None
        if layer in config.cca_layers:
            self.cca_norm = RMSNorm(width)
            self.cca = ChunkedCrossAttention(config)

    def attend(
        self, x: Tensor, tables: Any, mask: Tensor | None, previous: Tensor | None
    ) -> Tensor:
        """x [B, N, D] after self-attention, which is where the encoder reads it.

        Args:
            tables: of the self-attention's positions.
            mask: [B, 1, N, N], or None for plain causal attention.
            previous: [B, N], see `has_previous`.
        """
        norm, dropout = self.attention_norm, self.dropout
        return self.attention(x, norm, dropout, tables, mask, previous, causal=True)

    def finish(self, x: Tensor, encoded: Tensor | None, chunks: RetrievedChunks | None) -> Tensor:
        """x [B, N, D] after CCA, if there is something to read and a CCA, and feed-forward."""
        if self.cca is not None and encoded is not None and chunks is not None:
            x = x + self.dropout(self.cca(self.cca_norm(x), encoded, chunks))
        return add_feed_forward(x, self.ff_norm, self.ff, self.dropout)

    def attend_step(self, x: Tensor, cache: AttentionCache, places: NewPlaces) -> Tensor:
        """`attend` for new positions x [B, L, D] alone."""
        return self.attention.step(x, self.attention_norm, cache, places)

    def finish_step(self, x: Tensor, held: HeldNeighbours | None, places: NewPlaces) -> Tensor:
        """`finish` for new positions x [B, L, D] of one attending chunk."""
        norm, ff = self.ff_norm, self.ff
        if self.cca is not None and held is not None:
            x = x + self.cca.step(self.cca_norm(x), held, self.layer, places)
        if places.by_kernels and suits_kernels(norm, ff):
            return fused_token.feed_forward(x, norm.weight, ff.up.weight, ff.down.weight)
        return x + ff(norm(x))


def document_mask(document_ids: Tensor) -> Tensor:
    """[B, 1, N, N], True where a position may see another: earlier or same, in its own document."""
    length = document_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=document_ids.device).tril()
    same = document_ids.unsqueeze(2) == document_ids.unsqueeze(1)
    return (same & causal).unsqueeze(1)


def has_previous(document_ids: Tensor) -> Tensor:
    """[B, N], True where the previous position belongs to the same document."""
    same = document_ids[:, 1:] == document_ids[:, :-1]
    return F.pad(same, (1, 0))  # the first position has none, also in a row of one

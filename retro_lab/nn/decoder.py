"""The causal decoder: a GPT-like stack whose chosen layers carry CCA."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import SelfAttention
from .cca import ChunkedCrossAttention
from .config import RetroConfig
from .layers import FeedForward, rms_norm


class DecoderBlock(nn.Module):
    """Causal attention, CCA if chosen, feed-forward; each pre-normed and residual."""

    def __init__(self, config: RetroConfig, layer: int) -> None:
        super().__init__()
        width = config.d_model
        self.attention_norm = rms_norm(width)
        self.attention = SelfAttention(
            width, config.num_heads, config.head_dim, config.smeared_keys
        )
        self.ff_norm = rms_norm(width)
        self.ff = FeedForward(width, config.d_ff)
        self.cca: ChunkedCrossAttention | None = None
        if layer in config.cca_layers:
            self.cca_norm = rms_norm(width)
            self.cca = ChunkedCrossAttention(config)


def document_mask(document_ids: Tensor) -> Tensor:
    """[B, 1, N, N], True where a position may see another: earlier or same, in its own document."""
    length = document_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=document_ids.device).tril()
    same = document_ids.unsqueeze(2) == document_ids.unsqueeze(1)
    return (same & causal).unsqueeze(1)


def has_previous(document_ids: Tensor) -> Tensor:
    """[B, N], True where the previous position belongs to the same document."""
    same = document_ids[:, 1:] == document_ids[:, :-1]
    return torch.cat((torch.zeros_like(same[:, :1]), same), dim=1)

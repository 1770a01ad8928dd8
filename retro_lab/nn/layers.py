"""Small layers of every block: products, normalisation, feed-forward, smearing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import FeedForwardKind

EPSILON = 1e-6  # added to a norm's mean square


class Linear(nn.Linear):
    """A product without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)


class RMSNorm(nn.RMSNorm):
    """RMSNorm with a learned gain (RETRO, section 2.4)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)


class FeedForward(nn.Module):
    """Two matrices around a GELU, as the paper's parameter counts imply."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = Linear(width, inner)
        self.down = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class GatedFeedForward(FeedForward):
    """SwiGLU, as in Llama (Shazeer 2020): a third matrix gates the inner activations."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__(width, inner)
        self.gate = Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def feed_forward(kind: FeedForwardKind, width: int, inner: int) -> FeedForward:
    """The feed-forward block of this kind."""
    return FeedForward(width, inner) if kind == "gelu" else GatedFeedForward(width, inner)


class Smear(nn.Module):
    """Mixes each key with the previous token's key, by a learned share for each head.

    A layer can then match token pairs, which copying needs; otherwise two layers must first learn
    to co-operate.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(num_heads))

    def share(self) -> Tensor:
        """[H], share of the previous key in each key."""
        return self.logit.sigmoid()

    def forward(self, key: Tensor, has_previous: Tensor | None = None) -> Tensor:
        """Smeared keys.

        Args:
            key: [B, H, L, P].
            has_previous: [B, L], False where the previous token is hidden (another document);
                position 0 never has one.
        """
        share = self.share().view(1, -1, 1, 1)
        previous = F.pad(key[:, :, :-1], (0, 0, 1, 0))
        if has_previous is not None:
            previous = previous * has_previous[:, None, :, None].to(key.dtype)
        return torch.lerp(key, previous, share.to(key.dtype))


def noisy(embedded: Tensor, noise: float) -> Tensor:
    """Token embeddings with Gaussian noise, `noise` times their mean absolute value (Retro-li)."""
    if not noise:
        return embedded
    scale = noise * embedded.detach().abs().mean()
    return embedded + scale * torch.randn_like(embedded)


def at_least_single(x: Tensor) -> Tensor:
    """Converts half precision to float32, for log-probabilities; other precisions stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def maybe_checkpointed(checkpointing: bool, part: Callable[..., Tensor], *args: Any) -> Tensor:
    """part(*args); with `checkpointing`, activations are recomputed in the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        result = checkpoint(part, *args, use_reentrant=False)
        assert isinstance(result, Tensor)
        return result
    return part(*args)

"""The small parts every block shares: normalisation, feed-forward, smearing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as every
from torch.utils.checkpoint import checkpoint

from .config import FeedForwardKind
from .cpu import fused, fused_token


class RMSNorm(nn.RMSNorm):
    """RMSNorm with a learned gain (RETRO, section 2.4)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=fused.EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return fused.rms_norm(x, self.weight) if fused.fits(x) else super().forward(x)


def at_least_single(x: Tensor) -> Tensor:
    """Half precision becomes float32, where log-probabilities are worked out; the rest stays."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def run(checkpointing: bool, part: Callable[..., Tensor], *args: Any) -> Tensor:
    """part(*args); with `checkpointing` its activations are computed again in the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        result = checkpoint(part, *args, use_reentrant=False)
        assert isinstance(result, Tensor)
        return result
    return part(*args)


class Linear(nn.Linear):
    """A product without bias; for a few tokens, as in generation, by all cores."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x W for x [.., D], W [V, D]."""
    return fused_token.few_rows(x, weight) if fused_token.fits(x) else F.linear(x, weight)


def must_be_called(*modules: nn.Module) -> bool:
    """Whether their weights don't say all: someone listens, or put something in their place."""
    return _anyone_listens_to_all() or any(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
        or "forward" in module.__dict__
        or type(module) not in _KNOWN
        for module in modules
    )


def _anyone_listens_to_all() -> bool:
    return bool(
        every._global_forward_pre_hooks
        or every._global_forward_hooks
        or every._global_backward_pre_hooks
        or every._global_backward_hooks
    )


def drops(dropout: nn.Dropout) -> bool:
    """Whether it changes anything."""
    return dropout.training and dropout.p > 0


class FeedForward(nn.Module):
    """Two matrices around a GELU, as the paper's parameter counts imply."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = Linear(width, inner)
        self.down = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class GatedFeedForward(FeedForward):
    """SwiGLU: a third matrix gates the inner activations, as in Llama (Shazeer 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__(width, inner)
        self.gate = Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def feed_forward(kind: FeedForwardKind, width: int, inner: int) -> FeedForward:
    """The feed-forward block of a kind."""
    return FeedForward(width, inner) if kind == "gelu" else GatedFeedForward(width, inner)


def add_feed_forward(x: Tensor, norm: RMSNorm, ff: FeedForward, dropout: nn.Dropout) -> Tensor:
    """x + dropout(ff(norm(x)))."""
    if suits_kernels(norm, ff) and fused.fits(x) and not drops(dropout):
        return fused.feed_forward(x, norm.weight, ff.up.weight, ff.down.weight)
    return x + dropout(ff(norm(x)))


def suits_kernels(norm: RMSNorm, ff: FeedForward) -> bool:
    """Whether these do what `feed_forward` of `fused` and `fused_token` does, and no more."""
    return type(ff) is FeedForward and not must_be_called(norm, ff, ff.up, ff.down)


class Smear(nn.Module):
    """Mixes each key with the previous token's key, by a learned share per head.

    A layer can then match on token pairs, which is what copying needs; without it two layers
    must first co-operate to build that feature.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(num_heads))

    def share(self) -> Tensor:
        """[H] of the previous key in each key."""
        return self.logit.sigmoid()

    def forward(self, key: Tensor, has_previous: Tensor | None = None) -> Tensor:
        """Smeared keys.

        Args:
            key: [B, H, L, P].
            has_previous: [B, L], False where the previous token must not be seen (another
                document); position 0 never has one.
        """
        share = self.share().view(1, -1, 1, 1)
        previous = F.pad(key[:, :, :-1], (0, 0, 1, 0))
        if has_previous is not None:
            previous = previous * has_previous[:, None, :, None].to(key.dtype)
        return torch.lerp(key, previous, share.to(key.dtype))

    def step(self, key: Tensor, last_key: Tensor | None) -> Tensor:
        """Smeared keys [B, H, L, P] of rows whose previous raw key is `last_key` [B, H, 1, P]."""
        if last_key is None:
            return self(key)
        return self(torch.cat((last_key, key), dim=2))[:, :, 1:]


# Whose weights say all that they do.
_KNOWN = (Linear, RMSNorm, FeedForward, GatedFeedForward, Smear)

"""The small parts every block shares: normalisation, feed-forward, rotary positions, smearing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm(width: int) -> nn.RMSNorm:
    """RMSNorm with a learned gain (RETRO, section 2.4)."""
    return nn.RMSNorm(width, eps=1e-6)


def at_least_single(x: Tensor) -> Tensor:
    """Half precision becomes float32, where log-probabilities are worked out; the rest stays."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class FeedForward(nn.Module):
    """Two matrices around a GELU, as the paper's parameter counts imply."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Rotary:
    """Rotary positions: after rotation, a dot product depends on the distance alone.

    Query and key may carry different offsets, which is how CCA aligns the current token with the
    same offset of the neighbour's text and continuation. It holds no tensor, so that no cast of
    the model can coarsen the angles.
    """

    def __init__(self, head_dim: int, base: float) -> None:
        self.head_dim, self.base = head_dim, base

    def table(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [.., P] for integer positions [..]."""
        exact = torch.float32 if positions.device.type == "mps" else torch.float64
        exponents = torch.arange(0, self.head_dim, 2, dtype=exact, device=positions.device)
        angles = positions.to(exact).unsqueeze(-1) * self.base ** (-exponents / self.head_dim)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    @staticmethod
    def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """Rotates x [.., L, P] by a table whose shape broadcasts against it."""
        cos, sin = (t.to(x.dtype) for t in table)
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin


class Smear(nn.Module):
    """Mixes each key with the previous token's key, by a learned share per head.

    A layer can then match on token pairs, which is what copying needs; without it two layers
    must first co-operate to build that feature.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(num_heads))

    def forward(self, key: Tensor, has_previous: Tensor | None = None) -> Tensor:
        """Smeared keys.

        Args:
            key: [B, H, L, P].
            has_previous: [B, L], False where the previous token must not be seen (another
                document); position 0 never has one.
        """
        share = self.logit.sigmoid().view(1, -1, 1, 1)
        previous = F.pad(key[:, :, :-1], (0, 0, 1, 0))
        if has_previous is not None:
            previous = previous * has_previous[:, None, :, None].to(key.dtype)
        return torch.lerp(key, previous, share.to(key.dtype))

"""A table of hashed token n-grams, added to the residual stream through a gate.

The bigram, trigram and so on that end at a position are hashed to rows of a learned table, several
times with different hashes, so that two n-grams seldom collide in all of them. What is read is
projected to the decoder's width and scaled by a gate that compares it with the residual stream.
Sources: hash embeddings (Svenstrup et al. 2017); over-tokenised inputs (Huang et al. 2025,
"Over-Tokenized Transformer"); the gate of Engram (Cheng et al. 2026, "Conditional Memory via
Scalable Lookup"), of which the convolution and the compressed vocabulary are left out.

Shapes: B batch, N tokens, J hashes (orders times heads), D decoder width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RetroConfig
from .initialise import SelfInitialising
from .layers import Linear, RMSNorm

MISSING = -1  # id of a token before the text's beginning
_POSITIVE = 2**63 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # the odd constant of Fibonacci hashing


class NgramTable(SelfInitialising):
    """Reads the n-grams of orders 2 to `ngram_longest` that end at each position.

    Raises:
        ValueError: `ngram_longest` is below 2, or the model has no layer `ngram_layer`.
    """

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        if config.ngram_longest < 2:
            raise ValueError(
                f"ngram_longest {config.ngram_longest}: an n-gram has two tokens or more"
            )
        if not 1 <= config.ngram_layer <= config.num_layers:
            raise ValueError(f"ngram_layer {config.ngram_layer} is not in 1..{config.num_layers}")
        self.longest, self.heads = config.ngram_longest, config.ngram_heads
        self.num_rows, self.width = config.ngram_rows, config.d_model
        hashes = (self.longest - 1) * self.heads
        read = hashes * config.ngram_width
        self.table = nn.Embedding(hashes * self.num_rows, config.ngram_width)
        self.norm = RMSNorm(read)
        self.key = Linear(read, self.width)
        self.key_norm = RMSNorm(self.width)
        self.query_norm = RMSNorm(self.width)
        self.out = Linear(read, self.width)

    def start(self) -> None:
        """Closes the table: the model starts as the one without it."""
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, input_ids: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """x [B, N, D] with what the n-grams that end at each position add.

        Args:
            input_ids: [B, N].
            document_ids: as for `preceding`.
        """
        return self.added(x, preceding(input_ids, self.longest, document_ids))

    def added(self, x: Tensor, ids: Tensor) -> Tensor:
        """As `forward`, with the tokens before each position in ids [B, N, longest]."""
        read = self.norm(self.table(self.rows(ids)).flatten(-2))
        match = (self.query_norm(x) * self.key_norm(self.key(read))).sum(-1, keepdim=True)
        return x + (match / math.sqrt(self.width)).sigmoid() * self.out(read)

    def rows(self, ids: Tensor) -> Tensor:
        """[B, N, J] rows of the table, the same on every machine; ids as for `added`."""
        found = []
        for order in range(2, self.longest + 1):
            multipliers = ids.new_tensor(self._multipliers(order))  # int64 [H]
            mixed = torch.zeros_like(multipliers)
            for back in range(order):
                mixed = (mixed + ids[..., back, None] + 2) * multipliers  # wraps at 64 bits
                mixed = mixed ^ ((mixed & _POSITIVE) >> 31)
            found.append((mixed & _POSITIVE) % self.num_rows)
        rows = torch.cat(found, dim=-1)
        starts = [hashed * self.num_rows for hashed in range(rows.shape[-1])]
        return rows + ids.new_tensor(starts)

    def _multipliers(self, order: int) -> list[int]:
        """An odd 64-bit number for each head, as signed integers."""
        first = order * self.heads
        odd = range(2 * first + 1, 2 * (first + self.heads), 2)
        numbers = [_GOLDEN * number % 2**64 for number in odd]
        return [number - 2**64 if number >= 2**63 else number for number in numbers]


def preceding(ids: Tensor, longest: int, document_ids: Tensor | None = None) -> Tensor:
    """[B, N, longest]: the token at each position, the one before it, and so on.

    Args:
        ids: [B, N].
        document_ids: [B, N]; tokens of another document are `MISSING`, as are those before the row.
    """
    found = [ids]
    for back in range(1, longest):
        shifted = F.pad(ids, (back, 0), value=MISSING)[:, : ids.shape[1]]
        if document_ids is not None:
            other = F.pad(document_ids, (back, 0), value=-1)[:, : ids.shape[1]] != document_ids
            shifted = shifted.masked_fill(other, MISSING)
        found.append(shifted)
    return torch.stack(found, dim=-1)

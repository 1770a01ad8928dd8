"""The pointer read-out copies the token that follows a matching position in a neighbour.

Not part of RETRO. A small model learns to copy through CCA only from far more text than fits a
laptop's time. A gated mixture with attention over the neighbours' next tokens (as in pointer
networks and kNN language models) learns to copy within minutes. See docs/recipes.md.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chunks import RetrievedChunks, attending_chunks, put_back
from .config import RetroConfig
from .initialise import SelfInitialising
from .layers import at_least_single

MAX_MATCH = 8
GATE_START = -4.0
MATCH_SCORE_START = 1.0
MATCH_GATE_START = 0.5
MAX_GATE_LOGIT = 80.0  # largest gate logit; odds of e^89 overflow in single precision


class Copy(NamedTuple):
    """The pointer's copy distribution and gate.

    Attributes:
        log_attention: [B, U, M, J], log-weights over the J = K * R positions of the neighbours.
        next_ids: [B, U, J], the token after each position.
        gate_logit: [B, U, M], logit of the share of copying.
    """

    log_attention: Tensor
    next_ids: Tensor
    gate_logit: Tensor


class Pointer(SelfInitialising):
    """Attention from decoder states to neighbour positions, with a bias for matching suffixes."""

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        self.config = config
        width = config.num_heads * config.head_dim
        self.query = nn.Linear(config.d_model, width, bias=False)
        self.key = nn.Linear(config.encoder_d_model, width, bias=False)
        self.gate = nn.Linear(config.d_model, 1)
        self.heads = config.pointer_heads
        self.scale = (width // self.heads) ** -0.5
        # Added to a position's score in each head, and to the gate, by each further matching token.
        self.match: nn.Parameter | None = None
        if config.match_bias:
            self.match = nn.Parameter(torch.empty(self.heads + 1, MAX_MATCH))
        self.mix: nn.Linear | None = None
        if self.heads > 1:
            self.mix = nn.Linear(config.d_model, self.heads, bias=False)
        self.start()

    def start(self) -> None:
        """Initialises cautious copying: 2 % without a match, more with every matching token.

        With `pointer_start="zero"` a match has no initial effect, and learning rates for matrices
        change these few numbers too slowly to matter within a hundred steps (docs/recipes.md).
        Heads start with equal shares.
        """
        for matrix in (self.query, self.key):
            nn.init.normal_(matrix.weight, std=matrix.in_features**-0.5)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, GATE_START)
        if self.mix is not None:
            nn.init.zeros_(self.mix.weight)
        if self.match is not None:
            cautious = self.config.pointer_start == "cautious"
            with torch.no_grad():
                self.match[:-1] = MATCH_SCORE_START if cautious else 0.0
                self.match[-1] = MATCH_GATE_START if cautious else 0.0

    def forward(
        self, hidden: Tensor, encoded: Tensor, input_ids: Tensor, chunks: RetrievedChunks
    ) -> Copy:
        """Scores every neighbour position for every attending position.

        Args:
            hidden: [B, N, D] final decoder states.
            encoded: [B, U, K, R, E].
            input_ids: [B, N].
            chunks: masks and geometry.
        """
        size = self.config.chunk_size
        states = attending_chunks(hidden, chunks.num_chunks, size)  # [B, U, M, D]
        keys = self.project_keys(encoded)
        matches = None if self.match is None else matching_suffixes(input_ids, chunks, MAX_MATCH)
        return self.propose(states, keys, matches, chunks.ids, chunks.readable)

    def project_keys(self, encoded: Tensor) -> Tensor:
        """Keys [B, U, J, H*P] of encoded neighbours [B, U, K, R, E]."""
        return self.key(encoded.flatten(2, 3))

    def propose(
        self, states: Tensor, keys: Tensor, matches: Tensor | None, ids: Tensor, readable: Tensor
    ) -> Copy:
        """Copy distribution from states [B, U, M, D], keys [B, U, J, H*P], matches [L, B, U, M, J].

        The G heads share the width H*P.
        """
        queries = (self.query(states) * self.scale).unflatten(-1, (self.heads, -1))
        queries, keys = queries.movedim(-2, 0), keys.unflatten(-1, (self.heads, -1)).movedim(-2, 0)
        scores, gate = queries @ keys.transpose(-1, -2), None  # [G, B, U, M, J]
        if self.match is not None and matches is not None:
            match = self.match.to(scores.dtype)
            bias = torch.tensordot(match, matches.to(scores.dtype), dims=1)
            scores, gate = scores + bias[:-1], bias[-1]
        next_ids = F.pad(ids[..., 1:], (0, 1), value=self.config.pad_id).flatten(2)
        usable = (next_ids != self.config.pad_id).unsqueeze(2)
        scores = scores.masked_fill(~usable, -1e4)
        log_attention = self._mixed_heads(at_least_single(scores).log_softmax(-1), states)
        gate_logit = at_least_single(self.gate(states).squeeze(-1))
        if gate is not None:
            gate_logit = gate_logit + (log_attention.exp() * gate).sum(-1)
        gate_logit = gate_logit.clamp_max(MAX_GATE_LOGIT)
        gate_logit = gate_logit.masked_fill(~(usable.any(-1) & readable), float("-inf"))
        return Copy(log_attention, next_ids, gate_logit)

    def _mixed_heads(self, log_attention: Tensor, states: Tensor) -> Tensor:
        """[B, U, M, J] from [G, B, U, M, J]: a mixture with shares that depend on the position."""
        if self.mix is None:
            return log_attention[0]
        shares = at_least_single(self.mix(states)).log_softmax(-1).movedim(-1, 0)  # [G, B, U, M]
        return (log_attention + shares.unsqueeze(-1)).logsumexp(0)


def matching_suffixes(input_ids: Tensor, chunks: RetrievedChunks, longest: int) -> Tensor:
    """[L, B, U, M, J] bool: whether the last 1, 2, .. L tokens at both positions match.

    Nothing matches beyond the sequence's start, a neighbour's start, or in padding.
    """
    context = F.pad(input_ids, (longest - 1, 0), value=-1)
    here = []
    for back in range(longest):
        shifted = context[:, longest - 1 - back : context.shape[1] - back]
        here.append(attending_chunks(shifted, chunks.num_chunks, chunks.chunk_size))
    return matching_runs(here, chunks.ids)


def matching_runs(here: list[Tensor], ids: Tensor) -> Tensor:
    """[L, B, U, M, J] bool: whether 1, 2, .. L consecutive tokens match.

    Args:
        here: [B, U, M] each: tokens at the positions, one before, two before, ...
        ids: [B, U, K, R], the neighbours' tokens.
    """
    length = ids.shape[-1]
    counted: list[Tensor] = []
    for back, tokens in enumerate(here):
        kept = max(length - back, 0)
        there = F.pad(ids[..., :kept], (length - kept, 0), value=-2).flatten(2)
        same = tokens.unsqueeze(-1) == there.unsqueeze(2)
        counted.append(counted[-1] & same if counted else same)
    return torch.stack(counted)


def mixture_nats(lm_nats: Tensor, targets: Tensor, copy: Copy) -> Tensor:
    """-log((1 - g) p_lm + g p_copy) of each target.

    Args:
        lm_nats: [B, N], negative log-likelihood under the language model alone.
        targets: [B, N].
        copy: the pointer's copy distribution.

    Returns:
        [B, N]; exactly lm_nats where the gate is closed.
    """
    num_chunks, size = copy.gate_logit.shape[1:]
    wanted = attending_chunks(targets, num_chunks, size).unsqueeze(-1)
    hit = copy.next_ids.unsqueeze(2) == wanted  # [B, U, M, J]
    log_copy = copy.log_attention.masked_fill(~hit, -1e4).logsumexp(-1)
    gate = put_back(copy.gate_logit.exp().unsqueeze(-1), lm_nats.shape[1]).squeeze(-1)
    log_copy = put_back(log_copy.unsqueeze(-1), lm_nats.shape[1]).squeeze(-1)
    # p = (p_lm + e^x p_copy) / (1 + e^x) with odds e^x of the gate; exact for zero odds.
    mixed = torch.log1p(gate) - torch.logaddexp(-lm_nats, log_copy + gate.clamp_min(1e-30).log())
    return torch.where(gate > 0, mixed, lm_nats)


def mixture_log_probs(logits: Tensor, copy: Copy) -> Tensor:
    """[B, N, V] log-probabilities of the mixture; log_softmax(logits) where the gate is closed."""
    log_lm = at_least_single(logits).log_softmax(-1)
    length, vocabulary = logits.shape[1:]
    batch, num_chunks, size, _ = copy.log_attention.shape
    index = copy.next_ids.unsqueeze(2).expand(-1, -1, size, -1)
    p_copy = copy.log_attention.new_zeros(batch, num_chunks, size, vocabulary)
    p_copy = put_back(p_copy.scatter_add(-1, index, copy.log_attention.exp()), length)
    odds = put_back(copy.gate_logit.exp().unsqueeze(-1), length)
    return mixture(log_lm, odds, p_copy)


def mixture(log_lm: Tensor, odds: Tensor, p_copy: Tensor) -> Tensor:
    """[.., V] log((p_lm + odds p_copy) / (1 + odds)); exactly log_lm for zero odds."""
    mixed = torch.log(log_lm.exp() + odds * p_copy) - torch.log1p(odds)
    return torch.where(odds > 0, mixed, log_lm)

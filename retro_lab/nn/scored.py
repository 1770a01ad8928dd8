"""What a model says at some positions of a window, where a score needs the whole distribution.

Shapes: B batch, N tokens, T marked positions, J positions of the neighbours, V vocabulary.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .chunks import put_back
from .layers import at_least_single
from .pointer import Copy, mixture


class Readable(Protocol):
    """A model with final states, a pointer's copy distribution or None, and logits of states."""

    def hidden(
        self,
        input_ids: Tensor,
        neighbour_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, Copy | None]: ...

    def logits(self, hidden: Tensor) -> Tensor: ...


def logits_at(model: Readable, at: Tensor, input_ids: Tensor, *retrieval: Tensor | None) -> Tensor:
    """[T, V], what `forward` gives at the T positions that at [B, N] marks.

    Args:
        retrieval: neighbour_ids and document_ids, as of `Retro.forward`.
    """
    return logits_of(model, at, *model.hidden(input_ids, *retrieval))


def logits_of(model: Readable, at: Tensor, hidden: Tensor, copy: Copy | None) -> Tensor:
    """`logits_at` from what `model.hidden` returned."""
    logits = model.logits(hidden[at])
    return logits if copy is None else mixture_log_probs_at(logits, at, copy)


def mixture_log_probs_at(logits: Tensor, at: Tensor, copy: Copy) -> Tensor:
    """[T, V], `mixture_log_probs` at the T positions that at [B, N] marks.

    A token that no neighbour holds has p_lm / (1 + odds), so the mixture is computed for the others
    alone.

    Args:
        logits: [T, V], at these positions.
    """
    log_lm, length = at_least_single(logits).log_softmax(-1), at.shape[1]
    size, last = copy.log_attention.shape[2], logits.shape[-1] - 1
    attention = put_back(copy.log_attention.exp(), length)[at]  # [T, J]
    ids = put_back(copy.next_ids.unsqueeze(2).expand(-1, -1, size, -1), length)[at]  # [T, J]
    ids = ids.clamp(max=last)  # over a backbone padding has no logit; it is never copied
    odds = put_back(copy.gate_logit.exp().unsqueeze(-1), length)[at]  # [T, 1], 0 without a chunk
    p_copy = torch.zeros_like(log_lm).scatter_add(-1, ids, attention).gather(-1, ids)
    held = mixture(log_lm.gather(-1, ids), odds, p_copy)
    return (log_lm - odds.log1p()).scatter(-1, ids, held)

"""Asks a rival for whole distributions at a sample of places, and compares them with its scores.

A rival gives its distributions by another way than its scores: over the whole vocabulary, from the
text before the place alone. If they sum to one and give the true tokens the scores that were
counted, then these scores are of distributions.

Shapes: Q places, V tokens of the vocabulary.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.evaluation.compressors.outcome import Outcome
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.evaluation.measure.normalisation import agreement
from retro_lab.run.model import LanguageModel

from .blocks import Block, blocks_of

PLACES = 8


@dataclass(frozen=True)
class Places:
    """Tokens at which distributions are asked for, each the first of a block.

    Attributes:
        subset: the scored text.
        blocks: [Q], that begin at the tokens.
        numbers: int64 [Q], of the tokens among the scored ones.
        tokens: int64 [Q], ids.
    """

    subset: Subset
    blocks: list[Block]
    numbers: NDArray[np.int64]
    tokens: NDArray[np.int64]

    @classmethod
    def drawn(cls, subset: Subset, stride: int) -> Places:
        """At most `PLACES` random blocks of `stride` tokens, the same ones each time."""
        blocks = blocks_of(subset, stride)
        sizes = np.array([block.stop - block.start for block in blocks])
        first = np.cumsum(sizes) - sizes
        rng = np.random.default_rng(0)
        chosen = np.sort(rng.choice(len(blocks), min(PLACES, len(blocks)), replace=False))
        drawn = [blocks[i] for i in chosen]
        tokens = [subset.tokens_of(block.document)[block.start] for block in drawn]
        return cls(subset, drawn, first[chosen], np.array(tokens, np.int64))

    @property
    def contexts(self) -> list[NDArray[np.int64]]:
        """[Q] the tokens that the baseline predicts each place from."""
        return [
            self.subset.tokens_of(block.document)[block.context : block.start]
            for block in self.blocks
        ]


def next_token(model: LanguageModel, text: NDArray[np.int64]) -> NDArray[np.float64]:
    """[V] log-probabilities of the token after a text of one document."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(np.asarray(text, np.int64)).to(device)[None]
    with torch.inference_mode():
        logits = model(ids, None, torch.zeros_like(ids))[0, -1]
    return logits.double().log_softmax(-1).cpu().numpy()


def next_tokens(model: LanguageModel, texts: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """[Q, V] log-probabilities of the tokens after texts."""
    return np.stack([next_token(model, text) for text in texts])


def mixed(
    first: NDArray[np.float64], second: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """[Q, V] log-probabilities of the mixture with share `weight` of the second."""
    with np.errstate(divide="ignore"):
        return np.logaddexp(np.log1p(-weight) + first, np.log(weight) + second)


def checked(outcome: Outcome, places: Places, log_probs: NDArray[np.float64]) -> Outcome:
    """The outcome with the comparison among its facts, of which the rivals' table tells.

    Args:
        log_probs: [Q, V], the rival's distributions at the places.
    """
    assert outcome.token_nats is not None
    found = agreement(log_probs, places.tokens, outcome.token_nats[places.numbers])
    return dataclasses.replace(outcome, facts=outcome.facts | {"distribution": found._asdict()})

"""Scores as sums of nats, tokens and bytes; perplexity and bits per byte derive from the sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """Sums over scored tokens.

    Attributes:
        nats: negative log-likelihood, natural logarithm.
        tokens: scored tokens.
        bytes: UTF-8 bytes of the raw text of the scored tokens.
    """

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0

    @property
    def loss(self) -> float:
        """Nats a token; NaN when nothing was scored."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def ppl(self) -> float:
        """Perplexity a token, exp(loss); comparable only between runs with the same tokenizer."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def bpb(self) -> float:
        """Bits per byte, nats / (ln 2 * bytes); NaN when no byte was scored (RETRO, B.1)."""
        return self.nats / (math.log(2) * self.bytes) if self.bytes else math.nan

    def per_word(self, words: int) -> float:
        """Perplexity a word, exp(nats / words); NaN without words."""
        try:
            return math.exp(self.nats / words) if words else math.nan
        except OverflowError:
            return math.inf

    def __add__(self, other: Score) -> Score:
        return Score(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)

    def as_dict(self) -> dict[str, float | int | None]:
        """The sums and the derived figures; values that are not finite become None."""
        derived = {"loss": self.loss, "ppl": self.ppl, "bpb": self.bpb}
        finite = {name: v if math.isfinite(v) else None for name, v in derived.items()}
        return {"nats": self.nats, "tokens": self.tokens, "bytes": self.bytes, **finite}


@dataclass(frozen=True)
class MemoryShares:
    """What a memory's experts gave to the probability of each token.

    Attributes:
        share: float32, their part of the probability under the mixture; 0 for tokens that are not
            scored.
        expert: int16 of the same shape, place in `names` of the expert that gave most; -1 where the
            language model gave more than all experts together.
        names: of the experts.
    """

    share: NDArray[np.float32]
    expert: NDArray[np.int16]
    names: tuple[str, ...]

    @classmethod
    def empty(cls, shape: tuple[int, ...], names: tuple[str, ...]) -> MemoryShares:
        """Nothing is scored yet."""
        return cls(np.zeros(shape, np.float32), np.full(shape, -1, np.int16), names)

    def name(self, at: Any) -> str:
        """Of the expert that gave most to a token; empty for the language model."""
        place = int(self.expert[at])
        return "" if place < 0 else self.names[place]

    def __getitem__(self, at: Any) -> MemoryShares:
        """Those of some tokens, as NumPy indexes them."""
        return MemoryShares(self.share[at], self.expert[at], self.names)

    def __setitem__(self, at: Any, shares: MemoryShares) -> None:
        """Writes those of some tokens, given by the same experts."""
        self.share[at], self.expert[at] = shares.share, shares.expert


@dataclass(frozen=True)
class TokenScores:
    """Scores of single tokens, by chunk (of C) and place in the chunk (of M).

    Attributes:
        nats: float64 [C, M], 0 for tokens that are not scored.
        with_retrieval: bool [C, M], whether the prediction could read a neighbour.
        memory: [C, M] each, what a memory gave; None if that is not kept.
    """

    nats: NDArray[np.float64]
    with_retrieval: NDArray[np.bool_]
    memory: MemoryShares | None = None


@dataclass(frozen=True)
class ChunkScores:
    """Sums by global chunk id, of C chunks; zero for chunks that were not scored.

    Attributes:
        nats: float64 [C] negative log-likelihood.
        tokens: int64 [C] scored tokens, the chunk's text tokens.
        bytes: int64 [C] UTF-8 bytes of the scored tokens.
        with_retrieval: int64 [C] scored tokens whose prediction could read a neighbour.
        by_token: scores of single tokens, if requested.
    """

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]
    with_retrieval: NDArray[np.int64]
    by_token: TokenScores | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Ids of the scored chunks, ascending."""
        return np.flatnonzero(self.tokens)

    def total(self) -> Score:
        """Sum over all chunks, exactly rounded, so independent of order and of zeros."""
        return Score(math.fsum(self.nats), int(self.tokens.sum()), int(self.bytes.sum()))

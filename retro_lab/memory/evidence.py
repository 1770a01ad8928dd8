"""What experts say about the next token: the terms that all kinds of memory share.

An expert is a distribution over the vocabulary that it can give for some tokens and not for others.
Nothing of the token to be predicted enters what it gives, except `probability`, its answer.

Legend: T tokens, E experts, F features, V vocabulary, L tokens of a document, D width of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Text:
    """A document whose tokens are predicted.

    Attributes:
        tokens: int32 [L], the boundary token first.
        excluded: documents of the database that are the same document.
        others: int32 [L], tokens of another document to read contexts from, for a control: the
            evidence then knows nothing of this text.
    """

    tokens: NDArray[np.int32]
    excluded: NDArray[np.integer] = field(default_factory=lambda: np.empty(0, np.int64))
    others: NDArray[np.int32] | None = None

    @property
    def read(self) -> NDArray[np.int32]:
        """The tokens that contexts are read from."""
        return self.tokens if self.others is None else self.others


class Evidence(NamedTuple):
    """What experts say about T tokens.

    Attributes:
        probability: float32 [T, E], of the token that really follows.
        present: bool [T, E], whether the expert gives a distribution; its probability is 0 if not.
        favourite: int32 [T, E], the expert's most probable token; -1 without a distribution.
        features: float32 [T, F], what a gate may know about the experts.
    """

    probability: NDArray[np.float32]
    present: NDArray[np.bool_]
    favourite: NDArray[np.int32]
    features: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: list[Evidence]) -> Evidence:
        """The evidence of several kinds of experts about the same tokens."""
        return cls(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))

    @classmethod
    def stacked(cls, parts: list[Evidence]) -> Evidence:
        """The evidence of the same experts about several texts, one after the other."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


class Experts(Protocol):
    """A kind of memory: several experts that are read together.

    Attributes:
        experts: name of each expert.
        features: name of each feature.
        needs_states: whether they are read with states of the language model.
    """

    experts: tuple[str, ...]
    features: tuple[str, ...]
    needs_states: bool

    def read(
        self, text: Text, start: int, stop: int, states: NDArray[np.float32] | None = None
    ) -> Evidence:
        """The evidence about tokens [start, stop) of a text, from 1 on.

        Args:
            states: [stop - start, D], of the language model where it predicts these tokens; needed
                by experts that need states.
        """
        ...

    def mixture(
        self, text: Text, share: NDArray[np.float32], states: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """[V], the sum of share [E] times distribution over what follows the whole text.

        Args:
            states: [1, D], as in `read`.
        """
        ...


def contexts_of(
    tokens: NDArray[np.int32], start: int, stop: int, longest: int
) -> NDArray[np.int32]:
    """[stop - start, longest], the tokens before each place, last one first; -1 before the text."""
    padded = np.concatenate([np.full(longest, -1, np.int32), tokens.astype(np.int32)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, longest)
    return np.ascontiguousarray(windows[start:stop, ::-1])

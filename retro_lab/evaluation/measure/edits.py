"""Seeded edits of a text, so that a planted copy differs from its original by a known amount."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def with_tokens_replaced(
    tokens: NDArray[np.integer],
    rate: float,
    counts: NDArray[np.integer],
    rng: np.random.Generator,
) -> NDArray[np.integer]:
    """A copy of tokens [T] in which a share `rate`, at random places, is replaced.

    Args:
        rate: from 0 to 1; the number of places is rounded.
        counts: int [V], how often each token occurs in the corpus. A replacement is drawn by these
            counts among the tokens other than the one that it replaces, so V holds two at least.
        rng: draws places and tokens.
    """
    edited = tokens.copy()
    places = rng.choice(len(tokens), round(rate * len(tokens)), replace=False)
    shares = counts / counts.sum()
    while len(places):
        edited[places] = rng.choice(len(counts), len(places), p=shares)
        places = places[edited[places] == tokens[places]]
    return edited


def with_lines_reordered(text: str, rng: np.random.Generator) -> str:
    """The lines of `text` in a random order."""
    lines = text.split("\n")
    return "\n".join(lines[place] for place in rng.permutation(len(lines)))

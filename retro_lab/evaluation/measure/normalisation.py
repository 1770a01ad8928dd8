"""Whether what was scored is a distribution: asked for whole, it sums to one and gives the scores.

Shapes: Q places that are asked about, V tokens of the vocabulary.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

TOLERANCE = 1e-3
"""Greatest difference that passes, in nats and of the logarithm of a sum."""


class Agreement(NamedTuple):
    """Distributions at a sample of places, compared with the scores that were counted.

    Attributes:
        places: how many were asked about.
        total: the sum of probabilities that is farthest from one.
        gap: the greatest difference in nats between a counted score and its distribution's.
        passed: whether every sum is one and every score its distribution's.
    """

    places: int
    total: float
    gap: float
    passed: bool


def farthest_from_one(log_totals: NDArray[np.float64]) -> tuple[int, float]:
    """Index and value of the sum farthest from one, of sums given by their logarithms [Q]."""
    at = int(np.argmax(np.abs(log_totals)))
    return at, math.exp(min(float(log_totals[at]), 700.0))


def agreement(
    log_probs: NDArray[np.float64],
    tokens: NDArray[np.int64],
    nats: NDArray[np.float64],
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Compares distributions with scores.

    Args:
        log_probs: [Q, V], each distribution.
        tokens: [Q], the true tokens.
        nats: [Q], their scores as they were counted.
        tolerance: of the logarithm of a sum, and of a score.
    """
    log_totals = np.asarray(logsumexp(log_probs, axis=1))
    at, total = farthest_from_one(log_totals)
    asked = -log_probs[np.arange(len(tokens)), tokens]
    gap = float(np.abs(asked - nats).max())
    passed = bool(abs(log_totals[at]) <= tolerance and gap <= tolerance)
    return Agreement(len(tokens), total, gap, passed)

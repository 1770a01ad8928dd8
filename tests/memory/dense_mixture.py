"""Readings of whole distributions, from which a mixture can be computed at full length."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.memory.evidence import Evidence
from retro_lab.memory.gate import Gate
from retro_lab.memory.readings import ModelView, Readings

VOCABULARY, EXPERTS, FEATURES = 12, 3, 5


class Dense:
    """Whole distributions of a model and of experts over T tokens, and features of the evidence.

    The first expert gives its token most where its first feature is large; the others know nothing.

    Attributes:
        model: [T, V].
        experts: [T, E, V].
    """

    def __init__(self, seed: int, tokens: int = 400) -> None:
        rng = np.random.default_rng(seed)
        self.targets = rng.integers(0, VOCABULARY, tokens)
        self.model = rng.dirichlet(np.full(VOCABULARY, 20.0), tokens)
        self.experts = rng.dirichlet(np.full(VOCABULARY, 0.5), (tokens, EXPERTS))
        right = rng.random(tokens) < 0.5
        self.experts[right, 0] *= 0.1
        self.experts[right, 0, self.targets[right]] += 0.9
        self.present = rng.random((tokens, EXPERTS)) < 0.8
        self.features = rng.standard_normal((tokens, FEATURES)).astype(np.float32)
        self.features[:, 0] += 4 * right
        self.experts *= self.present[:, :, None]

    def evidence(self, row: NDArray[np.intp] | None = None) -> Evidence:
        """What the experts say about these tokens, or for a control what they say about others."""
        row = np.arange(len(self.targets)) if row is None else row
        experts, there = self.experts[row], self.present[row]
        probability = experts[np.arange(len(row)), :, self.targets].astype(np.float32)
        favourite = np.where(there, experts.argmax(2), -1).astype(np.int32)
        return Evidence(probability, there, favourite, self.features[row])

    def readings(self, row: NDArray[np.intp] | None = None) -> Readings:
        evidence = self.evidence(row)
        view = ModelView.of(torch.from_numpy(self.model).log(), self.targets, evidence.favourite)
        return Readings.of(evidence, view, np.arange(len(self.targets)))


def shares_of(gate: Gate, readings: Readings) -> NDArray[np.float64]:
    with torch.inference_mode():
        given = torch.from_numpy(readings.features), torch.from_numpy(readings.present)
        return gate(*given).double().exp().numpy()

"""Fits a gate on readings of training documents, stopped by validation."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch

from .gate import Gate, Readings, differentiable_nats, finite_logs

BATCH = 1024
RATE = 4e-3
EPOCHS = 6
PATIENCE = 3
"""Epochs without an improvement on validation after which fitting stops."""


class Fit(NamedTuple):
    """A fitted gate.

    Attributes:
        gate: the gate of the best epoch.
        nats: mean nats a token on validation after each epoch, before the first one first.
    """

    gate: Gate
    nats: list[float]


def fit(training: Readings, validation: Readings, seed: int) -> Fit:
    """The gate with the lowest loss on validation.

    Adam with a cosine decay over `EPOCHS` passes in random order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gate = Gate(training.features.shape[1], training.present.shape[1])
    features, present, probability, nats = map(torch.from_numpy, training)
    gate.standardise(features)
    logs = finite_logs(nats.float(), probability)
    rng = np.random.default_rng(seed)
    steps = math.ceil(len(features) / BATCH)
    optimiser = torch.optim.Adam(gate.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * steps)
    best, losses = copy.deepcopy(gate), [_loss(gate, validation)]
    for _ in range(EPOCHS):
        for rows in np.array_split(rng.permutation(len(features)), steps):
            at = torch.from_numpy(rows)
            loss = differentiable_nats(gate(features[at], present[at]), logs[at]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        losses.append(_loss(gate, validation))
        if losses[-1] == min(losses):
            best = copy.deepcopy(gate)
        elif losses.index(min(losses)) < len(losses) - PATIENCE:
            break
    return Fit(best.eval(), losses)


def _loss(gate: Gate, readings: Readings) -> float:
    return float(gate.nats(readings).mean())

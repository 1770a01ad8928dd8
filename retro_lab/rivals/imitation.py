"""What kNN-LM's neighbours say of the training text, and a small decoder that learns to say it.

For each sampled token of the training text the neighbours of its state in other documents give a
distribution, of which the likeliest tokens are stored. The decoder begins as the baseline's first
layers and minimises b * CE(p_kNN, p) + (1 - b) * nats of the text, with b the imitation.

Shapes: T scored tokens of the sampled windows, L likeliest tokens kept, V vocabulary, K neighbours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro_lab.config.schema import Decay, OptimConfig
from retro_lab.data.dataset import EvaluationData
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.memory.datastore import Datastore
from retro_lab.memory.states import token_states
from retro_lab.nn import Retro
from retro_lab.nn.cpu import accelerate
from retro_lab.store import Artifact, Workspace, mapped, track
from retro_lab.training.optimisers import build_optimiser
from retro_lab.training.schedules import learning_rate_factor

from .blocks import IGNORED
from .knn_lm import knn_distributions

KEPT = 32
"""Likeliest tokens of a distribution that are stored; their shares are scaled to sum to one."""
_WINDOWS = 8  # of a step, and of a block of the stage
_AT_ONCE = 256  # distributions over the whole vocabulary in memory
_WARMUP = 0.1  # share of the steps
_FINAL_RATIO = 0.1


class Targets(NamedTuple):
    """Distributions to imitate.

    Attributes:
        tokens: int32 [T, L], ids.
        shares: float32 [T, L], that sum to one; zeros where there was no neighbour.
        first: int64 [W + 1], by sampled window the first of its rows, and their number.
    """

    tokens: NDArray[np.int32]
    shares: NDArray[np.float32]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, artifact: Artifact) -> Targets:
        """Opens the arrays that `build_targets` writes."""
        tokens, shares, scored = (
            mapped(artifact.file(f"{name}.npy")) for name in ("tokens", "shares", "scored")
        )
        return cls(tokens, shares, np.cumsum([0, *scored.tolist()]))

    def shuffled(self, seed: int) -> Targets:
        """The same distributions, each at another token: a control that tells of no context."""
        order = np.random.default_rng(seed).permutation(len(self.tokens))
        return self._replace(tokens=self.tokens[order], shares=self.shares[order])


class Lesson(NamedTuple):
    """How a decoder learns.

    Attributes:
        imitation: share of the neighbours' distributions in the loss.
        epochs: passes over the sampled windows.
        optim, lr: optimiser and its peak rate.
        seed: of the order.
    """

    imitation: float
    epochs: int
    optim: OptimConfig
    lr: float
    seed: int


def sampled_windows(subset: Subset, tokens: int, seed: int) -> NDArray[np.int64]:
    """[W] random windows of a subset that score about so many tokens."""
    _, windows = subset.windows()
    count = max(1, tokens // subset.stride)
    return np.random.default_rng(seed).permutation(windows)[:count]


def likeliest(shares: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The L likeliest tokens [T, L] of distributions [T, V], and their shares scaled to one."""
    kept = min(KEPT, shares.shape[1])
    tokens = np.argpartition(-shares, kept - 1, axis=1)[:, :kept]
    found = np.take_along_axis(shares, tokens, 1)
    total = np.maximum(found.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return tokens.astype(np.int32), (found / total).astype(np.float32)


def build_targets(
    model: Retro,
    datastore: Datastore,
    data: EvaluationData,
    windows: NDArray[np.int64],
    teacher: Mapping[str, Any],
    workspace: Workspace,
) -> Mapping[str, Any]:
    """Writes tokens.npy and shares.npy [T, L], and scored.npy int64 [W], tokens of each window.

    Args:
        windows: [W].
        teacher: neighbours and temperature.
    """

    def produce(start: int, stop: int) -> dict[str, np.ndarray]:
        found, scored = [], []
        for part in token_states(model, data, windows[start:stop], 1):
            document = np.asarray(data.store.document)[part.chunk]
            distances, tokens = datastore.search(part.keys, document, teacher["neighbours"])
            scored.append(len(tokens))
            for first in range(0, len(tokens), _AT_ONCE):
                rows = slice(first, first + _AT_ONCE)
                size, temperature = model.config.vocab_size, teacher["temperature"]
                near = knn_distributions(distances[rows], tokens[rows], temperature, size)
                found.append(likeliest(near))
        ids, shares = (np.concatenate(column) for column in zip(*found, strict=True))
        return {"tokens": ids, "shares": shares, "scored": np.array(scored, np.int64)}

    workspace.blocks(len(windows), _WINDOWS, produce, what="asking kNN-LM", unit="windows")
    return {"windows": len(windows)}


def shortened(model: Retro, layers: int) -> Retro:
    """A trainable copy of a plain model's first layers, under its final norm and output layer."""
    depth = min(layers, model.config.num_layers)
    config = dataclasses.replace(model.config, num_layers=depth, ngram_rows=0)
    short = accelerate(Retro(config))
    short.load_state_dict(model.state_dict(), strict=False)
    return short.to(next(model.parameters()).device)


def imitate(
    decoder: Retro,
    targets: Targets,
    data: EvaluationData,
    windows: NDArray[np.int64],
    lesson: Lesson,
) -> Retro:
    """Trains the decoder in place, in evaluation mode afterwards.

    Args:
        targets: of the tokens that the windows score.
        windows: [W].
    """
    steps = lesson.epochs * math.ceil(len(windows) / _WINDOWS)
    optimiser = build_optimiser(decoder, lesson.optim, lesson.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        learning_rate_factor(
            steps=steps,
            warmup_steps=round(_WARMUP * steps),
            decay=Decay.cosine,
            final_ratio=_FINAL_RATIO,
        ),
    )
    rng = np.random.default_rng(lesson.seed)
    decoder.train()
    with track(steps, f"imitating neighbours at {lesson.lr:g}", "steps") as advance:
        for _ in range(lesson.epochs):
            order = rng.permutation(len(windows))
            for first in range(0, len(order), _WINDOWS):
                chosen = order[first : first + _WINDOWS]
                loss = _loss(decoder, targets, data, windows, chosen, lesson.imitation)
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                advance(1)
    return decoder.eval()


def _loss(
    decoder: Retro,
    targets: Targets,
    data: EvaluationData,
    windows: NDArray[np.int64],
    chosen: NDArray[np.int64],
    imitation: float,
) -> Tensor:
    """Mean loss over the tokens that the chosen of the sampled windows score."""
    device = next(decoder.parameters()).device
    batch = data.__getitems__(windows[chosen].tolist())
    ids, wanted, documents = (
        batch[name].to(device) for name in ("input_ids", "targets", "document_ids")
    )
    scored = wanted != IGNORED
    rows = np.concatenate([np.arange(*targets.first[i : i + 2]) for i in chosen])
    hidden, _ = decoder.hidden(ids, None, documents)
    logs = decoder.logits(hidden[scored]).float().log_softmax(-1)  # [T, V]
    told = torch.from_numpy(targets.tokens[rows]).long().to(device)
    shares = torch.from_numpy(targets.shares[rows]).to(device)
    neighbours = -(shares * logs.gather(1, told)).sum(1)
    text = -logs.gather(1, wanted[scored][:, None])[:, 0]
    return (imitation * neighbours + (1 - imitation) * text).mean()

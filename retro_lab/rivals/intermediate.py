"""The baseline mixed with what its own output layer reads from an earlier layer.

p(y) = w * p_l(y) + (1 - w) * p(y), with p_l the softmax of the output embedding over the residual
stream after layer l, normalised by the final norm (nostalgebraist 2020, "interpreting GPT: the
logit lens"). Layer and w are tuned on the validation split.

Shapes: T scored tokens of a subset in corpus order, L layers, B batch, N tokens, D width.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro_lab.evaluation.compressors.outcome import (
    Outcome,
    Tuning,
    bits_per_byte,
    chunk_sums,
    lowest,
)
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.nn import Retro
from retro_lab.store import track

from .knn_lm import mixed_nats
from .places import Places, checked, mixed, next_token
from .report import Entry
from .rival_session import RivalSession, num_parameters
from .states import UNSCORED


@contextmanager
def watched_layers(model: Retro) -> Iterator[dict[int, Tensor]]:
    """The residual stream [B, N, D] after each layer but the last, of each pass within."""
    seen: dict[int, Tensor] = {}
    hooks = [
        block.attention_norm.register_forward_pre_hook(partial(_keep, seen, layer))
        for layer, block in enumerate(model.decoder_blocks())
        if layer
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _keep(seen: dict[int, Tensor], layer: int, norm: torch.nn.Module, given: tuple) -> None:
    seen[layer] = given[0]


def nats_by_layer(model: Retro, subset: Subset, batch_size: int) -> NDArray[np.float64]:
    """[L, T] nats of the read-out of each layer; those of the last are the model's own."""
    data, windows = subset.windows()
    device, found = next(model.parameters()).device, []
    what = f"reading layers, {subset.split}"
    with (
        watched_layers(model) as seen,
        track(int(subset.tokens.sum()), what, "tokens") as advance,
        torch.inference_mode(),
    ):
        for start in range(0, len(windows), batch_size):
            batch = data.__getitems__(windows[start : start + batch_size].tolist())
            ids, targets, documents = (
                batch[name].to(device) for name in ("input_ids", "targets", "document_ids")
            )
            scored = targets != UNSCORED
            own = model.token_nats(ids, targets, None, documents)[scored]
            read = [
                model.cross_entropy(model.norm(seen[layer][scored]), targets[scored])
                for layer in sorted(seen)
            ]
            found.append(torch.stack([*read, own]).double().cpu().numpy())
            advance(len(own))
    return np.concatenate(found, axis=1)


def tune(subset: Subset, nats: NDArray[np.float64], weights: list[float], started: float) -> Tuning:
    """The best layer, counted from 1, and its share, by bits per byte on `subset`.

    Args:
        nats: [L, T], from `nats_by_layer`.
        started: `time.perf_counter()` at the start of tuning.
    """
    tried = []
    for layer in range(1, len(nats)):
        for weight in weights:
            mixed = mixed_nats(nats[-1], -nats[layer - 1], weight)
            bits = bits_per_byte(subset, chunk_sums(subset, mixed))
            tried.append(({"layer": layer, "weight": weight}, bits))
    return lowest(tried, started)


def log_probs(
    model: Retro, texts: list[NDArray[np.int64]], layer: int, weight: float
) -> NDArray[np.float64]:
    """[Q, V] log-probabilities of the mixture after texts."""
    own, earlier = [], []
    with watched_layers(model) as seen, torch.inference_mode():
        for text in texts:
            own.append(next_token(model, text))
            logits = model.logits(model.norm(seen[layer][:, -1:]))[0, -1]
            earlier.append(logits.double().log_softmax(-1).cpu().numpy())
    return mixed(np.stack(own), np.stack(earlier), weight)


def entries(session: RivalSession) -> list[Entry]:
    """The baseline with a read-out of the layer that validation chooses."""
    asked, text = session.asked.intermediate, session.text
    model = session.retro_baseline

    def score() -> Outcome:
        start = time.perf_counter()
        tuned_on = nats_by_layer(model, text.tuning, session.batch)
        tuning = tune(text.tuning, tuned_on, asked.weights, start)
        nats = nats_by_layer(model, text.test, session.batch)
        layer, weight = tuning.chosen["layer"], tuning.chosen["weight"]
        outcome = Outcome.by_token(
            text.test,
            mixed_nats(nats[-1], -nats[layer - 1], weight),
            tuning=tuning,
            seconds=round(time.perf_counter() - start, 1),
            parameters=num_parameters(model),
            facts={"layers": len(nats)},
        )
        places = Places.drawn(text.test, text.test.chunking.chunk_size)
        return checked(outcome, places, log_probs(model, places.contexts, layer, weight))

    outcome = session.kept("intermediate", text.test, asdict(asked), session.weights, score)
    return [Entry("intermediate", "layer mix", text.test, outcome)]

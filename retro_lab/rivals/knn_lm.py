"""kNN-LM: mixes the baseline's next-token distribution with the next tokens of similar states.

p(y) = w * p_kNN(y) + (1 - w) * p_LM(y), with p_kNN proportional to exp(-d / T) over the k nearest
states of the database, d the squared distance (Khandelwal et al. 2020, "Generalization through
Memorization", equations 2 and 3). k, T and w are tuned on the validation split.

Shapes: T scored tokens of a batch, K neighbours.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import KnnLmConfig
from retro_lab.evaluation.compressors.outcome import Outcome, Tuning, lowest
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.memory.datastore import (
    Datastore,
    build_index,
    build_states,
    index_stage,
    states_stage,
)
from retro_lab.memory.states import token_states, watched_states
from retro_lab.nn import Retro
from retro_lab.store import Stage, track

from .places import Places, checked, mixed, next_tokens
from .report import Entry
from .rival_session import RivalSession


def knn_log_probs(
    distances: NDArray[np.float32], hit: NDArray[np.bool_], temperature: float
) -> NDArray[np.float64]:
    """[T] log p_kNN of the true token; -inf if no neighbour has this token.

    Args:
        distances: [T, K], ascending, infinite for a missing neighbour.
        hit: [T, K], whether the neighbour's token is the true one.
    """
    weights = _weights(distances, temperature)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(hit, weights, 0.0).sum(axis=1) / weights.sum(axis=1)
        return np.log(np.nan_to_num(shares))


def knn_distributions(
    distances: NDArray[np.float32], tokens: NDArray[np.int32], temperature: float, vocab_size: int
) -> NDArray[np.float64]:
    """[T, V] p_kNN of every token; zeros where there is no neighbour.

    Args:
        distances: as for `knn_log_probs`.
        tokens: [T, K], -1 for a missing neighbour.
    """
    weights = _weights(distances, temperature)
    found = np.zeros((len(tokens), vocab_size))
    np.add.at(found, (np.arange(len(tokens))[:, None], np.maximum(tokens, 0)), weights)
    return found / np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)


def _weights(distances: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """[T, K] exp(-d / T) relative to the nearest neighbour's; 0 for a missing one."""
    nearest = np.where(np.isfinite(distances[:, :1]), distances[:, :1], 0.0)
    return np.exp(-(distances.astype(np.float64) - nearest) / temperature)


def mixed_nats(
    nats: NDArray[np.float64], knn: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """[T] nats of the mixture; for weight 0 exactly the language model's."""
    if weight == 0:
        return nats
    return -np.logaddexp(math.log(weight) + knn, math.log1p(-weight) - nats)


def tune(
    model: Retro, datastore: Datastore, subset: Subset, config: KnnLmConfig, batch_size: int
) -> Tuning:
    """The best k, T and w of the grid by bits per byte on `subset`, all from one search."""
    start = time.perf_counter()
    k = max(config.neighbours)
    grid = list(itertools.product(config.neighbours, config.temperatures, config.weights))
    sums = np.zeros(len(grid))
    for nats, distances, hit in _searched(model, datastore, subset, k, batch_size, "tuning"):
        for at, group in itertools.groupby(range(len(grid)), lambda i: grid[i][:2]):
            count, temperature = at
            knn = knn_log_probs(distances[:, :count], hit[:, :count], temperature)
            for i in group:
                sums[i] += mixed_nats(nats, knn, grid[i][2]).sum()
    bits = sums / math.log(2) / subset.bytes.sum()
    settings = ({"neighbours": k, "temperature": t, "weight": w} for k, t, w in grid)
    return lowest(zip(settings, bits.tolist(), strict=True), start)


def score(
    model: Retro, datastore: Datastore, subset: Subset, tuning: Tuning, batch_size: int
) -> Outcome:
    """The score of the mixture with the tuned settings on every token of `subset`."""
    start = time.perf_counter()
    chosen: dict[str, Any] = tuning.chosen
    found = []
    batches = _searched(model, datastore, subset, chosen["neighbours"], batch_size, "scoring")
    for nats, distances, hit in batches:
        knn = knn_log_probs(distances, hit, chosen["temperature"])
        found.append(mixed_nats(nats, knn, chosen["weight"]))
    outcome = Outcome.by_token(
        subset,
        np.concatenate(found),
        tuning=tuning,
        seconds=round(time.perf_counter() - start, 1),
        parameters=sum(p.numel() for p in model.parameters()),
        datastore_bytes=datastore.num_bytes,
        facts={"datastore_tokens": len(datastore.tokens)},
    )
    places = Places.drawn(subset, subset.chunking.chunk_size)
    return checked(outcome, places, _log_probs(model, datastore, places, chosen))


def _log_probs(
    model: Retro, datastore: Datastore, places: Places, chosen: dict[str, Any]
) -> NDArray[np.float64]:
    """[Q, V] log-probabilities of the mixture at the places."""
    with watched_states(model) as seen:
        own = next_tokens(model, places.contexts)
    keys = np.stack([state[0, -1].float().cpu().numpy() for state in seen])  # [Q, D]
    document = np.array([block.document for block in places.blocks])
    distances, tokens = datastore.search(keys, document, chosen["neighbours"])
    knn = knn_distributions(distances, tokens, chosen["temperature"], own.shape[1])
    with np.errstate(divide="ignore"):
        return mixed(own, np.log(knn), chosen["weight"])


def _searched(
    model: Retro, datastore: Datastore, subset: Subset, k: int, batch_size: int, what: str
):
    """Batches of (nats [T], distances [T, K], hit [T, K]) in corpus order."""
    data, windows = subset.windows()
    with track(int(subset.tokens.sum()), f"{what} kNN-LM", "tokens") as advance:
        for part in token_states(model, data, windows, batch_size):
            document = np.asarray(subset.store.document)[part.chunk]
            distances, tokens = datastore.search(part.keys, document, k)
            yield part.nats, distances, tokens == part.tokens[:, None]
            advance(len(part.nats))


class Opened(NamedTuple):
    """The datastore of the baseline's states of the training split.

    Attributes:
        datastore: to search.
        stages: of the states and of their index, by name.
        seconds: that both took to build.
        facts: of the index.
    """

    datastore: Datastore
    stages: dict[str, Stage]
    seconds: float
    facts: dict[str, Any]


def open_datastore(session: RivalSession) -> Opened:
    """Opens the datastore, building it unless it is there."""
    config, text, store = session.asked.knn_lm, session.text, session.graph.store
    model, read = session.retro_baseline, text.training.windows()
    stage = states_stage(
        session.graph.own.chunks.stage,
        session.weights["baseline"],
        window=text.training.chunking.sequence_length,
        stride=text.training.stride,
    )
    states = store.build(stage, lambda w: build_states(model, *read, session.batch, w))
    indexed = index_stage(stage, config.factory)
    index = store.build(indexed, lambda w: build_index(states, config.factory, w))
    return Opened(
        Datastore(states, index, config.nprobe),
        {"token_states": stage, "token_index": indexed},
        states.manifest["seconds"] + index.manifest["seconds"],
        dict(index.stats),
    )


def entries(session: RivalSession) -> list[Entry]:
    """kNN-LM over the baseline's states of the training split."""
    config, text, model = session.asked.knn_lm, session.text, session.retro_baseline

    def compute() -> Outcome:
        opened = open_datastore(session)
        tuning = tune(model, opened.datastore, text.tuning, config, session.batch)
        outcome = score(model, opened.datastore, text.test, tuning, session.batch)
        seconds = round(outcome.seconds + opened.seconds + tuning.seconds, 1)
        facts = outcome.facts | opened.facts
        return dataclasses.replace(outcome, seconds=seconds, facts=facts)

    outcome = session.kept("knn_lm", text.test, asdict(config), session.weights, compute)
    return [Entry("knn_lm", "kNN-LM", text.test, outcome)]

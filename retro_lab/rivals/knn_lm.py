"""kNN-LM: mixes the baseline's next-token distribution with the next tokens of similar states.

p(y) = w * p_kNN(y) + (1 - w) * p_LM(y), with p_kNN proportional to exp(-d / T) over the k nearest
states of the database, d the squared distance (Khandelwal et al. 2020, "Generalization through
Memorization", equations 2 and 3). k, T and w are tuned on the validation split.

Shapes: T scored tokens of a batch, K neighbours.
"""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import KnnLmConfig
from retro_lab.evaluation.compressors.outcome import Outcome, Tuning, lowest
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.memory.datastore import Datastore
from retro_lab.memory.states import token_states
from retro_lab.nn import Retro
from retro_lab.store import track


def knn_log_probs(
    distances: NDArray[np.float32], hit: NDArray[np.bool_], temperature: float
) -> NDArray[np.float64]:
    """[T] log p_kNN of the true token; -inf if no neighbour has this token.

    Args:
        distances: [T, K], ascending, infinite for a missing neighbour.
        hit: [T, K], whether the neighbour's token is the true one.
    """
    nearest = np.where(np.isfinite(distances[:, :1]), distances[:, :1], 0.0)
    weights = np.exp(-(distances.astype(np.float64) - nearest) / temperature)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(hit, weights, 0.0).sum(axis=1) / weights.sum(axis=1)
        return np.log(np.nan_to_num(shares))


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
    return Outcome.by_token(
        subset,
        np.concatenate(found),
        tuning=tuning,
        seconds=round(time.perf_counter() - start, 1),
        parameters=sum(p.numel() for p in model.parameters()),
        datastore_bytes=datastore.num_bytes,
        facts={"datastore_tokens": len(datastore.tokens)},
    )


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

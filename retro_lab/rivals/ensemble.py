"""An ensemble: the run's plain model and one of another seed, their probabilities averaged.

p(y) = w * p_2(y) + (1 - w) * p_1(y), a distribution since both models' are. The second model is a
run of its own, of the same sizes, text and number of tokens. w is tuned on the validation split.

Shapes: T scored tokens of a subset in corpus order.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.fingerprints import plain_of, steps_of
from retro_lab.config.schema import Config
from retro_lab.evaluation.compressors.outcome import (
    Outcome,
    Tuning,
    bits_per_byte,
    chunk_sums,
    lowest,
)
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.run.model import weights_digest

from .knn_lm import mixed_nats
from .matched_runs import train_match
from .places import Places, checked, mixed, next_tokens
from .report import Entry
from .rival_session import RivalSession, num_parameters
from .states import token_nats


def tune(
    subset: Subset,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    weights: list[float],
    started: float,
) -> Tuning:
    """The best share of the second model by bits per byte on `subset`.

    Args:
        first, second: [T] nats of each model.
        started: `time.perf_counter()` at the start of tuning.
    """
    mixed = ((weight, mixed_nats(first, -second, weight)) for weight in weights)
    return lowest(
        (({"weight": w}, bits_per_byte(subset, chunk_sums(subset, nats))) for w, nats in mixed),
        started,
    )


def of_seed(config: Config, seed: int) -> Config:
    """The configuration of a plain model that reads as many tokens as RETRO, of a seed."""
    return plain_of(dataclasses.replace(config, seed=seed, resume="auto"), steps_of(config))


def entries(session: RivalSession) -> list[Entry]:
    """The run's plain model and one of the next seed, trained unless they are there."""
    config, text, asked = session.config, session.text, session.asked.ensemble
    seeds = (config.seed, config.seed + 1)
    runs = [train_match(of_seed(config, s), session.graph, session.watch) for s in seeds]
    models = [session.load(run) for run in runs]

    def score() -> Outcome:
        start = time.perf_counter()
        first, second = (token_nats(model, text.tuning, session.batch) for model in models)
        tuning = tune(text.tuning, first, second, asked.weights, start)
        first, second = (token_nats(model, text.test, session.batch) for model in models)
        training = sum(run.status["seconds"].get("training", 0.0) for run in runs)
        outcome = Outcome.by_token(
            text.test,
            mixed_nats(first, -second, tuning.chosen["weight"]),
            tuning=tuning,
            seconds=round(training + time.perf_counter() - start, 1),
            parameters=sum(map(num_parameters, models)),
            facts={
                "runs": [run.path.name for run in runs],
                "seeds": list(seeds),
                "flops_per_token": sum(session.flops(model.config) for model in models),
            },
        )
        places = Places.drawn(text.test, config.chunking.chunk_size)
        first, second = (next_tokens(model, places.contexts) for model in models)
        return checked(outcome, places, mixed(first, second, tuning.chosen["weight"]))

    inputs = {str(s): weights_digest(model) for s, model in zip(seeds, models, strict=True)}
    outcome = session.kept("ensemble", text.test, asdict(asked), inputs, score)
    return [Entry("ensemble", "two plain", text.test, outcome)]

"""Rivals without retrieval of RETRO's size, each trained as a separate run."""

from __future__ import annotations

import dataclasses
import time

from retro_lab.config.fingerprints import plain_of, steps_of
from retro_lab.config.rules import check
from retro_lab.config.schema import Config, PlainConfig
from retro_lab.evaluation.compressors.outcome import Outcome, bits_per_byte, lowest
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import train
from retro_lab.run.model import weights_digest
from retro_lab.run.timing import Stopwatch

from .matched import Match, TableMatch, parameters
from .places import Places, checked, next_tokens
from .rival_session import RivalSession
from .states import plain_nats, token_nats


def matched_outcome(session: RivalSession, name: str, match: Match | TableMatch) -> Outcome:
    """Trains a run for each learning rate and scores the one that is best on validation."""
    runs = {}
    for factor in session.asked.matched.lr_factors:
        config = matched_config(session.config, name, match, factor)
        runs[factor] = train_match(config, session.graph, session.watch)
    models = {factor: session.load(run) for factor, run in runs.items()}
    text, batch = session.text, session.batch

    def score() -> Outcome:
        start = time.perf_counter()
        tried = []
        for factor, model in models.items():
            nats = plain_nats(model, text.tuning, batch)
            tried.append(({"lr_factor": factor}, bits_per_byte(text.tuning, nats)))
        tuning = lowest(tried, start)
        chosen = tuning.chosen["lr_factor"]
        model = models[chosen]
        training = sum(run.status["seconds"].get("training", 0.0) for run in runs.values())
        outcome = Outcome.by_token(
            text.test,
            token_nats(model, text.test, batch),
            tuning=tuning,
            seconds=round(training + time.perf_counter() - start, 1),
            parameters=parameters(model.config),
            facts={
                "run": runs[chosen].path.name,
                "flops_per_token": session.flops(model.config),
                "match": match.arithmetic,
            },
        )
        places = Places.drawn(text.test, text.test.chunking.chunk_size)
        return checked(outcome, places, next_tokens(model, places.contexts))

    settings = {"lr_factors": session.asked.matched.lr_factors}
    inputs = {f"{factor:g}": weights_digest(model) for factor, model in models.items()}
    return session.kept(name, text.test, settings, inputs, score)


def train_match(config: Config, graph: DataGraph, watch: Stopwatch) -> RunDirectory:
    """Trains the run of a matched model unless it is trained, without evaluating it.

    Args:
        config: by `matched_config`.
        graph: RETRO's data.
        watch: collects the seconds.
    """
    check(config)
    run = RunDirectory.of(config)
    lock = run.acquire(wait=True)
    try:
        train(config, run, graph.without_retrieval(), watch)
    finally:
        lock.release()
    return run


def matched_config(
    config: Config, name: str, match: Match | TableMatch, lr_factor: float
) -> Config:
    """The configuration of a matched model: RETRO's baseline resized, trained on as many tokens.

    Args:
        config: of the RETRO run.
        name: of the rival, appended to the model's name.
        match: its sizes.
        lr_factor: multiplies the learning rate.
    """
    model = dataclasses.replace(match.resized(config.model), name=f"{config.model.name}_{name}")
    rate = PlainConfig(lr=config.optim.lr * lr_factor)
    sized = dataclasses.replace(config, model=model, plain=rate, resume="auto")
    return plain_of(sized, steps_of(config))

"""Plain language models of RETRO's size, as runs with keys of their own."""

from __future__ import annotations

import dataclasses

from retro_lab.baselines.matched import Match
from retro_lab.config.checks import check
from retro_lab.config.fingerprints import baseline_of
from retro_lab.config.schema import Config, Method, MuonConfig

from .experiment import train
from .run_data import Prepared
from .run_directory import RunDirectory
from .timing import Stopwatch


def train_match(config: Config, prepared: Prepared, watch: Stopwatch) -> RunDirectory:
    """The run of a plain language model, trained now if it was not; it is not evaluated.

    Args:
        config: of `matched_config`.
        prepared: RETRO's data.
        watch: collects the seconds.
    """
    check(config)
    run = RunDirectory.of(config)
    lock = run.acquire(wait=True)
    try:
        train(config, run, prepared.without_neighbours(), None, watch)
    finally:
        lock.release()
    return run


def matched_config(config: Config, name: str, match: Match, lr_factor: float) -> Config:
    """The run of a plain language model: RETRO's baseline in another size, on as many tokens.

    Args:
        config: of the RETRO.
        name: of the rival, which becomes part of the model's.
        match: layers and inner width.
        lr_factor: multiplies the learning rate.
    """
    retrofit = config.recipe.method is Method.retrofit
    steps = config.schedule.steps + (config.recipe.steps if retrofit else 0)
    optim = dataclasses.replace(config.optim, lr=config.optim.lr * lr_factor)
    if isinstance(optim, MuonConfig):
        optim = dataclasses.replace(optim, muon_lr=optim.muon_lr * lr_factor)
    model = dataclasses.replace(
        config.model,
        name=f"{config.model.name}_{name}",
        num_layers=match.num_layers,
        d_ff=match.d_ff,
    )
    schedule = dataclasses.replace(config.schedule, steps=steps)
    return baseline_of(
        dataclasses.replace(config, model=model, schedule=schedule, optim=optim, resume="auto")
    )

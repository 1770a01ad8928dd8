"""The language models without retrieval that a run is compared with, and their run directories.

`baseline` is the model that a retrofit grafts retrieval on. `plain` is the same model trained on as
many tokens (or for as many FLOPs) as RETRO; gains are measured against it. On a pretrained backbone
`baseline` is the backbone and `plain` that backbone trained further. Both are separate runs, shared
by all runs with the same data, size, optimiser and seed.
"""

from __future__ import annotations

import dataclasses
import logging

from retro_lab.config.fingerprints import (
    baseline_of,
    plain_of,
    steps_of,
)
from retro_lab.config.schema import Config, PlainMatch

from .backbone import with_backbone
from .cost import steps_of_equal_flops
from .directory import RunDirectory

LOG = logging.getLogger("retro_lab")
Compared = dict[str, RunDirectory]
"""Run directory by condition, `plain` or `baseline`."""


def compared_configs(config: Config) -> dict[str, Config]:
    """The configuration of each compared model, by condition; empty for a run without retrieval."""
    if not config.retriever.retrieves or config.baseline is None:
        return {}
    found = {"baseline": baseline_of(config)}
    wanted = config.wanted_plain
    if wanted is not None:
        flops = wanted.match is PlainMatch.flops
        found["plain"] = plain_of(
            config, steps_of_equal_flops(config) if flops else steps_of(config)
        )
    found = {name: with_backbone(other) for name, other in found.items()}
    return {name: dataclasses.replace(other, resume="auto") for name, other in found.items()}


def compared_runs(config: Config) -> Compared:
    """The compared runs that are trained; logs a warning for each missing one."""
    found = {}
    for name, other in compared_configs(config).items():
        run = RunDirectory.of(other)
        if run.reached("trained"):
            found[name] = run
        else:
            LOG.warning(
                "%s is missing, so there is no figure for %r; the run's train.py command trains it",
                run.path,
                name,
            )
    return found

"""The plain language models that a run is compared with: which they are, and where they lie.

`baseline` is what retrieval is grafted on, or would be; `plain` is the model that a gain is
measured against, the same one trained on as many tokens (or for as many FLOPs) as RETRO. Both are
runs of their own, shared by all runs that have the same data, size, optimiser and seed.
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
"""Runs by the condition that they are scored as, `plain` or `baseline`."""


def compared_configs(config: Config) -> dict[str, Config]:
    """The configuration of each plain model that a run is compared with, by condition.

    A run without retrieval is compared with nothing.
    """
    if not config.retriever.retrieves or config.baseline is None:
        return {}
    found = {"baseline": with_backbone(baseline_of(config))}
    wanted = config.wanted_plain
    if wanted is not None:
        flops = wanted.match is PlainMatch.flops
        found["plain"] = plain_of(
            config, steps_of_equal_flops(config) if flops else steps_of(config)
        )
    return {name: dataclasses.replace(other, resume="auto") for name, other in found.items()}


def compared_runs(config: Config) -> Compared:
    """The runs that a finished run can be compared with: those of them that are there."""
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

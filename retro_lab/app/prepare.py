"""`python -m retro_lab prepare`: builds data and no more; `--explain` says what it would build."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from retro_lab.config.schema import Config

LOG = logging.getLogger("retro_lab")


def main(argv: Sequence[str]) -> int:
    """Exit code of `prepare <argv>`."""
    from . import launch

    explain = "--explain" in argv
    task = explain_stages if explain else build_stages
    return launch.run("train", task, [argument for argument in argv if argument != "--explain"])


def explain_stages(config: Config) -> int:
    """Prints hit or miss for each stage, and which key caused a miss; builds nothing."""
    from .stages import Pipeline

    pipeline = Pipeline(config)
    for explanation in pipeline.store.explain(pipeline.stages()):
        print(explanation.line())
    return 0


def build_stages(config: Config) -> int:
    """Builds everything that training and evaluation will read."""
    from .stages import Pipeline

    pipeline = Pipeline(config)
    pipeline.build_all()
    for stage in pipeline.stages():
        print(f"{stage.name:<12}{pipeline.store.folder(stage)}")
    return 0

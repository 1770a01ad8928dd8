"""Checks before a Hydra job begins; `hydra_config` is the job's `HydraConfig`.

Each raises a UserError.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.config.rules import check_choosing
from retro_lab.config.schema import Config
from retro_lab.run.directory import RunDirectory

# Launchers that start all processes of a job. Under other launchers Lightning starts processes by
# repeating the command line, which under multirun would start the whole sweep again.
_STARTS_PROCESSES = ("slurm", "submitit_slurm")


def check_place(config: Config, hydra_config: Any) -> None:
    """Refuses an output directory of Hydra other than the run's own, named after its settings."""
    given, own = Path(hydra_config.runtime.output_dir), RunDirectory.of(config).path
    if own.resolve() != given.resolve():
        raise UserError(
            f"hydra.run.dir and hydra.sweep.dir don't move a run: {given} isn't {own}, the "
            "directory named after its settings",
            fix="leave them out; runs_dir=<folder> puts all runs elsewhere",
        )


def check_point(config: Config, hydra_config: Any) -> None:
    """Refuses a point that its launcher can't start, or an objective unfit for model selection."""
    refuse_processes(config, hydra_config)
    if hydra_config.runtime.choices["hydra/sweeper"] != "basic":
        check_choosing(config)


def refuse_processes(config: Config, hydra_config: Any) -> None:
    """Refuses several processes a job under a launcher that starts only one."""
    launcher = hydra_config.runtime.choices["hydra/launcher"]
    trainer = config.trainer
    if trainer.devices * trainer.num_nodes > 1 and launcher not in _STARTS_PROCESSES:
        point = " ".join(hydra_config.overrides.task)
        raise UserError(
            f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes}: a sweep "
            f"cannot start several processes a job under hydra/launcher={launcher}",
            fix=f"run each point by itself: python train.py {point}\n"
            "       (the same directories, so a sweep goes on from there), "
            "or take hydra/launcher=slurm",
        )

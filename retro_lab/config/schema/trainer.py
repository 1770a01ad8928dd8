"""Groups `trainer`, hardware and intervals of training, and `prepare`, data preparation.

Only `trainer.precision` enters the run key; `prepare` never changes the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ..errors import UserError, problem
from .setting import setting

# Environment variables in which launchers number the processes of one training.
_RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")


@dataclass
class TrainerConfig:
    """Passed to pytorch-lightning's Trainer.

    Attributes:
        name: the option's name.
        accelerator: cpu, gpu or auto.
        devices: processes on each node.
        num_nodes: nodes.
        strategy: auto, ddp or fsdp.
        precision: 32-true or bf16-mixed; the only setting here that enters the run key.
        accumulate: micro-batches a step; together they hold `schedule.batch_size` sequences and
            give the whole batch's step, up to rounding.
        threads: torch threads a process; null takes all cores.
        num_workers: data-loading processes.
        compile: torch.compile the model.
        checkpointing: activation checkpointing; less memory, more time, the same loss.
        val_every: steps between validations.
        val_windows: validation windows scored each time; null takes all.
        log_every: steps between logged training metrics.
        checkpoint_every: steps between resumable checkpoints.
    """

    name: str = setting("cpu", identity=False)
    accelerator: str = setting("cpu", choices=("cpu", "gpu", "auto"), identity=False)
    devices: int = setting(1, at_least=1, at_most=2**12, identity=False)
    num_nodes: int = setting(1, at_least=1, at_most=2**16, identity=False)
    strategy: str = setting("auto", choices=("auto", "ddp", "fsdp"), identity=False)
    precision: str = setting("32-true", choices=("32-true", "bf16-mixed"))
    accumulate: int = setting(1, at_least=1, at_most=2**20, identity=False)
    threads: int | None = setting(None, at_least=1, at_most=2**12, identity=False)
    num_workers: int = setting(0, at_least=0, at_most=2**12, identity=False)
    compile: bool = setting(False, identity=False)
    checkpointing: bool = setting(False, identity=False)
    val_every: int = setting(200, at_least=1, identity=False)
    val_windows: int | None = setting(32, at_least=1, at_most=2**31, identity=False)
    log_every: int = setting(10, at_least=1, identity=False)
    checkpoint_every: int = setting(100, at_least=1, identity=False)

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes and reports: the only one of a run, or rank zero."""
        alone = self.devices * self.num_nodes == 1
        return alone or all(os.environ.get(name, "0") == "0" for name in _RANKS)


class EngineKind(Enum):
    """Where a stage's blocks are computed."""

    local = "local"
    ray = "ray"


@dataclass
class PrepareConfig:
    """Where chunks, embeddings and neighbours are computed.

    Attributes:
        engine: local, in this process; or ray, by workers of a Ray cluster with a shared file
            system.
        workers: worker processes; null takes as many as the cluster has cores, or GPUs for.
        gpus_per_worker: GPUs of each worker; at 0.5 two workers share one.
    """

    engine: EngineKind = EngineKind.local
    workers: int | None = setting(None, at_least=1, at_most=2**16)
    gpus_per_worker: float = setting(0.0, at_least=0)

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.engine is EngineKind.ray:
            return
        for name in ("workers", "gpus_per_worker"):
            value = getattr(self, name)
            if value != getattr(PrepareConfig, name):
                rule = f"{prefix}engine={self.engine.name} is one process"
                yield problem(f"{prefix}{name}", value, rule, f"{prefix}engine=ray")

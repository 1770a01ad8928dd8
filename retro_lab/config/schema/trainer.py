"""Group `trainer`, the hardware and the rhythm of training, of which only precision makes a run;
and node `prepare`, who prepares the data, which never changes what is prepared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ..errors import UserError, problem
from .setting import setting

# What launchers number the processes by that train one model together.
_RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")


@dataclass
class TrainerConfig:
    """Passed to pytorch-lightning's Trainer.

    Attributes:
        accelerator: cpu, gpu or auto.
        devices: processes a node.
        num_nodes: nodes.
        strategy: auto, ddp or fsdp.
        precision: 32-true or bf16-mixed; alone of these it is part of the run's identity.
        accumulate: micro-batches a step, which share `schedule.batch_size`; the step is the whole
            batch's, up to rounding.
        threads: torch threads a process; null takes the machine's cores.
        num_workers: data-loading processes.
        compile: torch.compile the model.
        checkpointing: keep only block boundaries for the backward pass: less memory, more time,
            the same loss.
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
        """Whether this is the only process of a run, or the one that writes and reports."""
        alone = self.devices * self.num_nodes == 1
        return alone or all(os.environ.get(name, "0") == "0" for name in _RANKS)


class EngineKind(Enum):
    """What works on the blocks of a stage."""

    local = "local"
    ray = "ray"


@dataclass
class PrepareConfig:
    """Where blocks of chunks, embeddings and neighbours are made.

    Attributes:
        engine: local, in this process; or ray, by workers of a Ray cluster that share its files.
        workers: processes of the cluster; null takes as many as it has cores, or GPUs for.
        gpus_per_worker: GPUs each of them holds; 0.5 shares one among two.
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

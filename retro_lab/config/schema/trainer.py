"""Groups `trainer`, hardware and intervals of training, and `prepare`, data preparation.

Only `trainer.precision` and a limit of time enter the run key; `prepare` never changes the data.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..errors import UserError, as_text, problem
from .setting import setting

# Environment variables in which launchers number the processes of one training.
_RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")

CHANGING_EXTRA = ("max_time",)
"""Keys of `trainer.extra` that change the weights beyond rounding."""

_SWITCH = (True, False)
_EXTRA: dict[str, tuple[Any, ...]] = {
    "profiler": ("simple", "advanced", "pytorch"),
    "max_time": (),
    "deterministic": (*_SWITCH, "warn"),
    "benchmark": _SWITCH,
    "detect_anomaly": _SWITCH,
    "inference_mode": _SWITCH,
}
"""Arguments of Lightning's Trainer that are passed on, with their values."""

_TIME = re.compile(r"(?!00:00:00:00)\d\d:\d\d:\d\d:\d\d")
_STEPS = "schedule.steps=<steps>; a run is counted in optimiser steps"
_NOT_NEEDED = "leave it out: training here has no use for it"
_SET_HERE = {
    "accelerator": "trainer.accelerator=<cpu, gpu or auto>",
    "strategy": "trainer.strategy=<auto, ddp or fsdp>",
    "devices": "trainer.devices=<number>",
    "num_nodes": "trainer.num_nodes=<number>",
    "precision": "trainer.precision=<32-true or bf16-mixed>",
    "logger": "logger=[wandb,csv]",
    "callbacks": "callbacks.class=[module:Class]",
    "fast_dev_run": "debug=fast",
    "max_epochs": _STEPS,
    "min_epochs": _STEPS,
    "max_steps": _STEPS,
    "min_steps": _STEPS,
    "limit_train_batches": _STEPS,
    "limit_val_batches": "trainer.val_windows=<windows>",
    "limit_test_batches": "corpus.max_bytes=<bytes>; an evaluation scores its whole split",
    "limit_predict_batches": _NOT_NEEDED,
    "overfit_batches": "corpus.max_bytes=<bytes>",
    "val_check_interval": "trainer.val_every=<steps>",
    "check_val_every_n_epoch": "trainer.val_every=<steps>",
    "num_sanity_val_steps": _NOT_NEEDED,
    "log_every_n_steps": "trainer.log_every=<steps>",
    "enable_checkpointing": "trainer.checkpoint_every=<steps>",
    "enable_progress_bar": _NOT_NEEDED,
    "enable_model_summary": "python -m retro_lab validate",
    "accumulate_grad_batches": "trainer.accumulate=<micro-batches>",
    "gradient_clip_val": "optim.clip=<norm>",
    "gradient_clip_algorithm": "optim.clip=<norm>",
    "use_distributed_sampler": _NOT_NEEDED,
    "barebones": _NOT_NEEDED,
    "plugins": _NOT_NEEDED,
    "sync_batchnorm": _NOT_NEEDED,
    "reload_dataloaders_every_n_epochs": _NOT_NEEDED,
    "default_root_dir": "runs_dir=<folder>",
    "enable_autolog_hparams": "logger=[wandb]",
    "model_registry": "logger=[wandb]",
}
"""The other arguments, which this project sets itself, with the key to use instead."""


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
        extra: further arguments of Lightning's Trainer, for every training of the run; of them
            only `max_time` enters the run key.
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
    extra: dict[str, Any] = setting({}, neutral={})

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes and reports: the only one of a run, or rank zero."""
        alone = self.devices * self.num_nodes == 1
        return alone or all(os.environ.get(name, "0") == "0" for name in _RANKS)

    def problems(self, prefix: str) -> Iterator[UserError]:
        for name, value in self.extra.items():
            key = f"{prefix}extra.{name}"
            if name in _SET_HERE:
                yield problem(key, value, "is set by this project", _SET_HERE[name])
            elif name not in _EXTRA:
                near = difflib.get_close_matches(name, [*_EXTRA, *_SET_HERE], n=1)
                fix = f"did you mean {near[0]}?" if near else f"there are: {', '.join(_EXTRA)}"
                yield problem(key, value, "is no argument of Lightning's Trainer", fix)
            elif name == "max_time" and not _TIME.fullmatch(str(value)):
                rule = "must be days:hours:minutes:seconds, two digits each, and above 0"
                yield problem(key, value, rule, f"{key}=00:01:30:00")
            elif _EXTRA[name] and value not in _EXTRA[name]:
                values = " or ".join(map(as_text, _EXTRA[name]))
                yield problem(key, value, f"must be {values}", f"{key}={as_text(_EXTRA[name][0])}")


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

"""Trains one model with a Lightning Trainer, resuming exactly from a checkpoint."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, Strategy
from torch import nn

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config, TrainerConfig
from retro_lab.data.datamodule import RetroDataModule

from .callbacks import Checkpoints, Interrupted, TrainingMetrics
from .checkpoint import (
    BEST,
    LAST,
    RecordedCheckpointIO,
    checkpoint_folder,
    drop_checkpoints,
    resumable_step,
)
from .console import ConsoleLogger
from .module import RetroModule
from .own_callbacks import build_callbacks, trainer_extra
from .phase import Phase

LOG = logging.getLogger("retro_lab")

# Timeout between ranks: long, since the first one evaluates the baseline while the others wait.
RANK_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True)
class FitResult:
    """Checkpoints and speed of a finished training.

    Attributes:
        last: resumable checkpoint after the last step.
        best: weights with the lowest validation loss; `last` without a validation split.
        steps: optimiser steps done, including steps before a resume.
        seconds: spent on training steps by this process, without validation.
        tokens_per_second: scored tokens per second of training; 0 if no interval was logged.
    """

    last: Path
    best: Path
    steps: int
    seconds: float
    tokens_per_second: float


def check_hardware(config: TrainerConfig) -> None:
    """Checks that the configured GPUs exist, and that there are some where the strategy needs them.

    Raises:
        UserError: naming the setting.
    """
    found = torch.cuda.device_count()
    if config.accelerator == "gpu" and not found and not torch.backends.mps.is_available():
        raise UserError(
            "trainer.accelerator=gpu, but torch finds no GPU on this machine",
            fix="trainer=cpu; or install a torch that is built for the GPU",
        )
    if config.strategy == "fsdp" and not found:
        raise UserError(
            "trainer.strategy=fsdp: shards a model over CUDA's GPUs, and torch finds none here",
            fix="trainer=ddp, which works on a CPU; or install a torch that is built for the GPU",
        )
    if config.accelerator != "cpu" and found and config.devices > found:
        raise UserError(
            f"trainer.devices={config.devices}, but torch finds {found} on this machine",
            fix=f"trainer.devices={found}",
        )


def fit(
    model: nn.Module,
    datamodule: RetroDataModule,
    phase: Phase,
    config: Config,
    run_dir: Path,
    loggers: Sequence[Logger] = (),
    trained_as: dict[str, Any] | None = None,
) -> FitResult:
    """Trains a model, resuming from its run's last checkpoint if there is one.

    Args:
        model: has `token_nats`; trained in place, except frozen parameters.
        phase: optimiser, steps and neighbour curriculum.
        config: for trainer settings and seed.
        trained_as: settings that determine the weights; a checkpoint with others is refused.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after a resumable checkpoint is written.
        SystemExit: on SIGTERM (sent by clusters), after a resumable checkpoint is written.
        UserError: the checkpoint is of another run, the batch doesn't divide among devices, or
            training diverges.
    """
    folder = checkpoint_folder(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    start = resumable_step(run_dir, trained_as)
    if not start:
        drop_checkpoints(run_dir)
    module = RetroModule(model, phase, seed=config.seed, compile=config.trainer.compile)
    console = ConsoleLogger(phase.schedule.steps, start, phase.name)
    metrics = TrainingMetrics(config.trainer.log_every)
    checkpoints = Checkpoints(folder, config.trainer.checkpoint_every, phase.val_every)
    with quiet_lightning():
        _prepare_torch(config.trainer)
        trainer = _trainer(
            config.trainer,
            module,
            run_dir,
            [metrics, *build_callbacks(config.callbacks), checkpoints],
            [*loggers, console],
            RecordedCheckpointIO(trained_as or {}),
        )
        model.train()
        console.open()
        try:
            with checkpoints.handling_stop_signals():
                trainer.fit(
                    module,
                    datamodule=datamodule,
                    ckpt_path=last if start else None,
                    weights_only=True,
                )
        except Interrupted:
            if checkpoints.stopped_by == signal.SIGTERM:
                raise SystemExit(128 + signal.SIGTERM) from None
            raise KeyboardInterrupt from None
    if trainer.global_step < phase.schedule.steps:
        LOG.warning(
            "%s stopped at step %d of %d: a gain between models that stopped at different steps "
            "is not one of retrieval alone",
            phase.name,
            trainer.global_step,
            phase.schedule.steps,
        )
    return FitResult(
        last=last,
        best=folder / BEST if (folder / BEST).exists() else last,
        steps=trainer.global_step,
        seconds=metrics.seconds,
        tokens_per_second=metrics.tokens / metrics.seconds if metrics.seconds else 0.0,
    )


def _trainer(
    config: TrainerConfig,
    module: RetroModule,
    run_dir: Path,
    callbacks: list[Any],
    loggers: list[Logger],
    checkpoint_io: RecordedCheckpointIO,
) -> Trainer:
    """A Trainer without Lightning's own progress bar, summary and checkpointing."""
    return Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=_strategy(config, module.model),
        precision=config.precision,  # pyright: ignore[reportArgumentType]
        max_steps=module.phase.schedule.steps,
        max_epochs=-1,
        accumulate_grad_batches=config.accumulate,
        val_check_interval=module.phase.val_every * config.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        logger=loggers,
        plugins=[checkpoint_io],
        default_root_dir=run_dir,
        **trainer_extra(config.extra, run_dir),
    )


def _strategy(config: TrainerConfig, model: nn.Module) -> Strategy | str:
    """Lightning's strategy; FSDP shards by block and writes unsharded checkpoints."""
    if config.strategy == "ddp":
        return DDPStrategy(gradient_as_bucket_view=True, timeout=RANK_TIMEOUT)
    if config.strategy == "fsdp":
        blocks = {type(block) for block in getattr(model, "blocks", [])}
        return FSDPStrategy(
            auto_wrap_policy=blocks or None, state_dict_type="full", timeout=RANK_TIMEOUT
        )
    return config.strategy


def _prepare_torch(config: TrainerConfig) -> None:
    """Sets CPU threads, and TF32 matrix products on a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processes = config.devices if config.accelerator == "cpu" else 1
    torch.set_num_threads(config.threads or max((cores or 1) // processes, 1))
    if torch.cuda.is_available() and config.accelerator != "cpu":
        torch.set_float32_matmul_precision("high")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences Lightning's log lines and warnings below errors."""
    names = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for module in ("pytorch_lightning", "lightning_fabric"):
            warnings.filterwarnings("ignore", module=rf"{module}\..*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

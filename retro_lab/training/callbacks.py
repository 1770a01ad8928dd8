"""Lightning callbacks for training metrics, checkpoints and interruption."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.metrics import Score

from .checkpoint import BEST, LAST
from .module import RetroModule

SUMS = ("nats", "tokens", "bytes", "filled", "slots")


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and the warning that clusters send


class Interrupted(BaseException):
    """Raised after a stop signal, when the checkpoint is written; Lightning would just exit."""


class TrainingMetrics(Callback):
    """Adds up sums on the device and logs training metrics every few steps and after the last.

    | name | meaning |
    | --- | --- |
    | train/loss, train/ppl, train/bpb | over all tokens since the last log line, on all ranks |
    | train/lr | learning rate of the last step |
    | train/gradient_norm | before clipping, of the last step |
    | train/coverage | share of neighbour slots that are filled |
    | train/tokens_per_second | scored tokens, on all ranks, validation left out |

    Checkpoints include the sums, so that a resumed run logs the same metrics.
    """

    def __init__(self, log_every: int) -> None:
        self.log_every = log_every
        self._sums = torch.zeros(len(SUMS), dtype=torch.float64)
        self._lr = 0.0
        self._since = 0.0
        self.tokens = 0  # scored on all ranks in logged intervals, since this process began
        self.seconds = 0.0  # of those intervals

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._sums = self._sums.to(pl_module.device)
        self._restart_clock()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        self._lr = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Runs before the checkpoint callback, so a checkpoint includes sums not logged yet."""
        assert isinstance(pl_module, RetroModule)
        self._sums += self._step_sums(outputs, batch)
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        due = trainer.global_step % self.log_every == 0 or trainer.global_step >= trainer.max_steps
        if stepped and due:
            pl_module.emit(self._figures(pl_module))
            self._sums.zero_()
            self._restart_clock()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since += time.perf_counter() - self._paused

    def state_dict(self) -> dict[str, Any]:
        """Sums over all ranks; every rank takes part in writing a checkpoint."""
        return {"sums": _over_ranks(self._sums).cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        sums = state_dict["sums"]
        self._sums = sums if rank_zero_only.rank == 0 else torch.zeros_like(sums)

    @staticmethod
    def _step_sums(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """One batch's `SUMS`, on the device without synchronisation."""
        filled = slots = torch.zeros((), device=outputs["tokens"].device)
        if "neighbour_chunks" in batch:
            neighbours = batch["neighbour_chunks"]
            filled = (neighbours >= 0).sum()
            slots = (batch["chunk_ids"] >= 0).sum() * neighbours.shape[-1]
        parts = (outputs["nats"], outputs["tokens"], outputs["bytes"], filled, slots)
        return torch.stack([part.double() for part in parts])

    def _figures(self, module: RetroModule) -> dict[str, float]:
        """Metrics since the last log line; synchronises with the device.

        Raises:
            UserError: if the loss is not finite.
        """
        nats, tokens, num_bytes, filled, slots = _over_ranks(self._sums).tolist()
        score = Score(nats, int(tokens), int(num_bytes))
        step = module.trainer.global_step
        if score.tokens and not abs(score.loss) < float("inf"):
            raise UserError(
                f"training diverged: the loss is {score.loss} at step {step}",
                fix=f"lower optim.lr (the rate was {self._lr:.3g}) or lengthen the warm-up",
            )
        seconds = time.perf_counter() - self._since
        self.tokens += score.tokens
        self.seconds += seconds
        figures = {"loss": score.loss, "ppl": score.ppl, "bpb": score.bpb, "lr": self._lr}
        figures["gradient_norm"] = float(module.gradient_norm)
        figures["tokens_per_second"] = score.tokens / seconds
        if slots:
            figures["coverage"] = filled / slots
        return {f"train/{name}": value for name, value in figures.items()}

    def _restart_clock(self) -> None:
        self._since = time.perf_counter()


def _over_ranks(sums: Tensor) -> Tensor:
    total = sums.clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    return total


class Checkpoints(Checkpoint):
    """Writes `last.ckpt`, for an exact resume, and `best.ckpt`, weights of lowest validation loss.

    `last.ckpt` is written every few steps, after the last step, also of a training that another
    callback ends early, and on a stop signal. The first
    Ctrl-C or SIGTERM ends training after the current step with a checkpoint; a second one ends
    training at once without. If validation follows a step, the checkpoint is written after the
    validation, so that a resumed run neither repeats nor skips it.

    Args:
        folder: of both checkpoints.
        every: optimiser steps between checkpoints.
        validate_every: optimiser steps between validations; one also follows the last step.
    """

    def __init__(self, folder: Path, every: int, validate_every: int) -> None:
        self.last = folder / LAST
        self.best = folder / BEST
        self.every = every
        self.validate_every = validate_every
        self.stopped_by: int | None = None
        self._best_loss = float("inf")

    @contextmanager
    def handling_stop_signals(self) -> Iterator[None]:
        """A context that handles the stop signals; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replaces Lightning's SIGTERM handler, which would stop in the middle of a validation."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True  # makes Lightning validate after the last step as well
        if not self._validation_follows(trainer):
            self._save_last_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = float(trainer.callback_metrics["val/loss"])
        if loss < self._best_loss:
            self._best_loss = loss
            trainer.save_checkpoint(self.best, weights_only=True)
        self._save_last_if_due(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self._best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best_loss = state_dict["best_loss"]

    def _validation_follows(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        due = step % self.validate_every == 0 or trainer.should_stop
        return due and sum(trainer.num_val_batches) > 0

    def _save_last_if_due(self, trainer: Trainer) -> None:
        step = trainer.global_step
        stopping = self._stopping_anywhere(trainer)
        if stopping or trainer.should_stop or step % self.every == 0:
            trainer.save_checkpoint(self.last)
        if stopping:
            raise Interrupted

    def _stopping_anywhere(self, trainer: Trainer) -> bool:
        """Whether any rank got a stop signal, so that all ranks stop at the same step."""
        stopping = self.stopped_by is not None
        if trainer.world_size == 1:
            return stopping
        return trainer.strategy.reduce_boolean_decision(stopping, all=False)

    def _on_signal(self, signum: int, frame: Any) -> None:
        if self.stopped_by is not None:
            raise Interrupted
        self.stopped_by = signum
        if rank_zero_only.rank == 0:
            print("\nstopping after this step; a second time stops at once", flush=True)

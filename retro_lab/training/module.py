"""The LightningModule around a language model: loss, validation and optimisation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from retro_lab.evaluation.measure.sum_metric import SumMetric

from .optimisers import build_optimiser
from .phase import Phase
from .schedules import learning_rate_factor

IGNORED = -100
Batch = dict[str, Tensor]


class RetroModule(LightningModule):
    """Trains a model with `token_nats(input_ids, targets, neighbour_ids, document_ids)`.

    Args:
        model: the network; parameters without `requires_grad` stay frozen.
        phase: optimiser, steps and neighbour curriculum.
        seed: of dropout, together with step and rank.
        compile: compile the model's loss.

    Attributes:
        tokens_seen: this rank's share of the scored tokens that the weights were trained on.
    """

    _token_nats: Callable[..., Tensor]

    def __init__(
        self,
        model: nn.Module,
        phase: Phase,
        *,
        seed: int,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.phase, self.seed = model, phase, seed
        self.joint = phase.joint  # as a module of this one, its gate is in every checkpoint
        backbone = cast(Any, model).backbone_parameters() if phase.frozen_until else []
        self.frozen: list[nn.Parameter] = list(backbone)
        self.gradient_norm = torch.zeros(())
        self._divisor = self._step_tokens = torch.zeros(())
        self.tokens_seen = torch.tensor(phase.tokens_before if rank_zero_only.rank == 0 else 0)
        self._sums = nn.ModuleDict({name: SumMetric() for name in ("on", "off")})
        token_nats = cast(Any, model).token_nats
        self._token_nats = torch.compile(token_nats) if compile else token_nats

    def nats(self, batch: Batch, *, retrieval: bool = True) -> Tensor:
        """Negative log-likelihoods [B, N] in nats, with or without the batch's neighbours.

        In a joint phase they are those of the mixture with the memory.
        """
        if self.joint is not None and self.joint.begun:
            return self.joint(self.model, batch, retrieval=retrieval)
        return self._token_nats(
            batch["input_ids"],
            batch["targets"],
            neighbour_ids=batch.get("neighbour_ids") if retrieval else None,
            document_ids=batch["document_ids"],
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds dropout from seed, micro-batch and rank, so that a resumed run is exact.

        Before the first step of a joint phase, its gate is fitted.
        """
        if self.joint is not None:
            self.joint.begin_at(self.trainer.global_step)
        accumulate = self.trainer.accumulate_grad_batches
        micro_batch = self.trainer.global_step * accumulate + batch_idx % accumulate
        text = f"{self.seed}/{micro_batch}/{self.global_rank}"
        digest = hashlib.blake2b(text.encode(), digest_size=7).digest()
        torch.manual_seed(int.from_bytes(digest, "little"))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Mean nats over the scored tokens of all ranks, with the sums behind the mean.

        Gradients are averaged over ranks, so each rank divides by the mean number of tokens per
        rank. Each micro-batch of an optimiser step divides by the token count of the first one,
        since the total is known only after the last; `_rescale_accumulated` corrects for this.
        """
        if self.phase.curriculum is not None and "neighbour_ids" in batch:
            shown = self.phase.curriculum(batch["neighbour_ids"], self.trainer.global_step)
            batch = {**batch, "neighbour_ids": shown}
        nats = self.nats(batch).sum()
        tokens = (batch["targets"] != IGNORED).sum()
        self.tokens_seen = self.tokens_seen.to(tokens.device) + tokens
        share = tokens.to(nats.dtype)
        if self.trainer.world_size > 1:
            dist.all_reduce(share)
            share = share / self.trainer.world_size
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._divisor, self._step_tokens = share.clamp(min=1), torch.zeros_like(share)
        self._step_tokens = self._step_tokens + share
        return {
            "loss": nats / self._divisor,
            "nats": nats.detach(),
            "tokens": tokens,
            "bytes": batch["target_bytes"].sum(),
        }

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        for condition in self._conditions(batch):
            nats = self.nats(batch, retrieval=condition == "on")
            self._sum(condition).update(nats, batch["targets"], batch["target_bytes"])

    def on_validation_epoch_end(self) -> None:
        """Logs loss, ppl and bpb; with retrieval also for each condition.

        | name | condition |
        | --- | --- |
        | val/loss, val/ppl, val/bpb | with retrieval if the data has neighbours |
        | val/on/..., val/off/... | RETRO with and without neighbours |
        """
        metrics: dict[str, float] = {}
        ran = [name for name in self._sums if self._sum(name).update_called]
        for condition in ran:
            total = self._sum(condition)
            figures = {name: value.item() for name, value in total.compute().items()}
            total.reset()
            if condition == "on" or len(ran) == 1:
                metrics |= {f"val/{name}": value for name, value in figures.items()}
            if len(ran) > 1:
                metrics |= {f"val/{condition}/{name}": value for name, value in figures.items()}
        self.log_dict(metrics, logger=False)  # for checkpoints and other callbacks
        if not self.trainer.sanity_checking:
            self.emit(metrics)

    def emit(self, metrics: dict[str, float]) -> None:
        """Sends metrics to every logger, with the number of optimiser steps and `tokens_seen`.

        `tokens_seen` counts scored training tokens on all ranks, including the baseline's of a
        retrofit. Every rank must call this.
        """
        metrics = {**metrics, "tokens_seen": self._tokens_of_all()}
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.trainer.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Every rank takes part in writing a checkpoint."""
        checkpoint["tokens_seen"] = self._tokens_of_all()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        seen = checkpoint.get("tokens_seen", 0) if rank_zero_only.rank == 0 else 0
        self.tokens_seen = torch.tensor(seen)

    def _tokens_of_all(self) -> int:
        total = self.tokens_seen.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        return int(total)

    def configure_optimizers(self) -> Any:
        optimiser = build_optimiser(self.model, self.phase.optim, self.phase.lr)
        schedule = self.phase.schedule
        factor = learning_rate_factor(
            steps=schedule.steps,
            warmup_steps=schedule.warmup_steps,
            decay=schedule.decay,
            final_ratio=schedule.final_ratio,
        )
        scheduler = LambdaLR(optimiser, factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by global norm and keeps the norm; FSDP sums the norm over its shards itself.

        Before `phase.frozen_until`, the backbone's gradients are removed, so that the optimiser
        skips its parameters. This depends only on the step, so it is exact on resume and equal on
        all ranks.
        """
        self._rescale_accumulated()
        if self.trainer.global_step < self.phase.frozen_until:
            for parameter in self.frozen:
                parameter.grad = None
        clip = self.phase.optim.clip
        limit = float("inf") if clip is None else clip
        wrapped = self.trainer.strategy.model
        if isinstance(wrapped, FullyShardedDataParallel):
            self.gradient_norm = wrapped.clip_grad_norm_(limit)
        else:
            self.gradient_norm = nn.utils.clip_grad_norm_(self.parameters(), limit)

    def _rescale_accumulated(self) -> None:
        """Rescales the gradient to the mean loss over all tokens of the step's micro-batches.

        Lightning averages micro-batches, each divided by the first one's token count.
        """
        accumulate = self.trainer.accumulate_grad_batches
        if accumulate == 1:
            return
        factor = accumulate * self._divisor / self._step_tokens.clamp(min=1)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def _sum(self, condition: str) -> SumMetric:
        return cast(SumMetric, self._sums[condition])

    @staticmethod
    def _conditions(batch: Batch) -> tuple[str, ...]:
        return ("on", "off") if "neighbour_ids" in batch else ("off",)

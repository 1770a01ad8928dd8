"""The LightningDataModule: data loaders over a chunk store, resumable in training."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    ChunkingConfig,
    EvalConfig,
    NeighboursConfig,
    ScheduleConfig,
    TrainerConfig,
)
from retro_lab.retrieval.table import NeighbourTable
from retro_lab.text.chunks import ChunkStore

from .dataset import Batch, EvaluationData, TrainingData, WindowData
from .sampler import ResumableSampler

T = TypeVar("T")


class RetroDataModule(LightningDataModule):
    """Training, validation and scoring windows of one chunk store.

    Args:
        store: the chunks.
        table: neighbours of the chunks; None for the baseline.
        data_keys: keys of the data stages, which must be equal in a resumed run.

    Raises:
        UserError: from `load_state_dict`, if the checkpoint is of other data.
    """

    def __init__(
        self,
        store: ChunkStore,
        table: NeighbourTable | None,
        *,
        chunking: ChunkingConfig,
        neighbours: NeighboursConfig,
        schedule: ScheduleConfig,
        trainer: TrainerConfig,
        eval: EvalConfig,
        seed: int,
        data_keys: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.store = store
        self.table = table
        self.chunking = chunking
        self.k = neighbours.k
        self.schedule = schedule
        self.run = trainer
        self.eval = eval
        self.seed = seed
        self.data_keys = dict(data_keys or {})
        self._start = 0

    @property
    def stride(self) -> int:
        """Tokens between evaluation windows; half a window by default."""
        return self.eval.stride or self.half_window

    @property
    def half_window(self) -> int:
        """Tokens of half a window, rounded down to whole chunks, at least one chunk."""
        size = self.store.chunk_size
        return max(self.chunking.sequence_length // size // 2, 1) * size

    @property
    def samples_consumed(self) -> int:
        """Training windows that the weights were trained on, without windows loaded ahead."""
        if self.trainer is None:
            return self._start
        return self.trainer.global_step * self.schedule.batch_size

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All settings and keys that determine the training batches."""
        return {
            "chunks.num_chunks": int(self.store.num_chunks),
            "chunks.vocab_size": int(self.store.vocab_size),
            **{f"chunking.{name}": value for name, value in asdict(self.chunking).items()},
            "neighbours.k": self.k if self.table is not None else None,
            "schedule.batch_size": self.schedule.batch_size,
            "seed": self.seed,
            **{f"artifact {name}": key for name, key in self.data_keys.items()},
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        data = TrainingData(self.store, self.chunking, self.table, self.k)
        rank, world_size = _rank_and_world()
        sampler = ResumableSampler(
            len(data),
            self.schedule.batch_size,
            seed=self.seed,
            start=self._start,
            rank=rank,
            world_size=world_size,
            accumulate=self.run.accumulate,
        )
        return self._loader(data, sampler)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """A loader of at most `trainer.val_windows` windows, spread evenly over validation."""
        data = self._evaluation_data("validation", self.table, self.k)
        if not len(data):
            return []
        count = min(len(data), self.run.val_windows or len(data))
        rows = np.linspace(0, len(data) - 1, count).round().astype(np.int64)
        rank, world_size = _rank_and_world()
        idle = np.full(-count % world_size, -1)  # every rank gets as many batches
        rows = np.concatenate((rows, idle))[rank::world_size]
        return self._loader(data, _batched(rows.tolist(), self.eval.batch_size))

    def evaluation_loader(self, split: str, table: NeighbourTable | None) -> DataLoader[Batch]:
        """A loader of all windows of a split in order, on one rank, with `eval.k` neighbours.

        Raises:
            UserError: the split has no token to score.
        """
        data = self._evaluation_data(split, table, self.eval.k or self.k)
        if not len(data):
            raise UserError(
                f"eval.split={split}: this split has no token to score",
                fix=f"give it documents: corpus.split.{split} is the share of them",
            )
        return self._loader(data, _batched(list(range(len(data))), self.eval.batch_size))

    def state_dict(self) -> dict[str, Any]:
        return {"samples_consumed": self.samples_consumed, "fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        stored, own = state_dict["fingerprint"], self.fingerprint
        differing = [name for name in {**stored, **own} if stored.get(name) != own.get(name)]
        if differing:
            rows = [f"{name}: {stored.get(name)} there, {own.get(name)} here" for name in differing]
            raise UserError(
                "the checkpoint was trained on other data than this run's: " + "; ".join(rows),
                fix="use the run's own configuration, or start again with resume=null",
            )
        self._start = state_dict["samples_consumed"]

    def _evaluation_data(self, split: str, table: NeighbourTable | None, k: int) -> EvaluationData:
        return EvaluationData(self.store, split, self.chunking, table, k, self.stride)

    def _loader(
        self, data: WindowData, batches: ResumableSampler | list[list[int]]
    ) -> DataLoader[Batch]:
        return DataLoader(
            data,
            batch_sampler=batches,
            collate_fn=_as_is,
            num_workers=self.run.num_workers,
            worker_init_fn=_leave_signals_to_the_parent,
            pin_memory=self.run.accelerator != "cpu" and torch.cuda.is_available(),
        )


def _as_is(batch: Any) -> Any:
    """Collate function; the dataset already returns whole batches."""
    return batch


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ignores stop signals in loader workers, since training needs their batches to stop cleanly.

    Terminals and clusters send signals to every process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _batched(rows: Sequence[T], size: int) -> list[list[T]]:
    return [list(rows[i : i + size]) for i in range(0, len(rows), size)]


def _rank_and_world() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1

"""A training run that takes a second: a tiny RETRO on a small random store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from small_store import PAD, VOCABULARY, SmallStore
from small_table import SmallTable

from retro_lab.config.schema import (
    AdamWConfig,
    ChunkingConfig,
    Config,
    EvalConfig,
    MuonConfig,
    NeighboursConfig,
    OptimConfig,
    ScheduleConfig,
    TrainerConfig,
)
from retro_lab.data.datamodule import RetroDataModule
from retro_lab.nn import Retro, RetroConfig
from retro_lab.training.checkpoint import resumable_step
from retro_lab.training.fit import FitResult, fit
from retro_lab.training.loggers import METRICS, JsonlLogger
from retro_lab.training.phase import Phase

CHUNKING = ChunkingConfig(chunk_size=4, continuation_chunks=1, sequence_length=16)


def small_config(**changes: Any) -> Config:
    """Steps that fall before, on and after validations and checkpoints, in the second epoch."""
    trainer = TrainerConfig(val_every=4, val_windows=5, log_every=3, checkpoint_every=5, threads=1)
    config = Config(
        chunking=CHUNKING,
        neighbours=NeighboursConfig(k=2, k_store=4),
        optim=AdamWConfig(lr=1e-2),
        schedule=ScheduleConfig(steps=14, batch_size=4, warmup_steps=2),
        trainer=trainer,
        eval=EvalConfig(batch_size=4),
        seed=5,
    )
    trainer_changes = {n: v for n, v in changes.items() if hasattr(trainer, n)}
    rest = {name: value for name, value in changes.items() if name not in trainer_changes}
    return replace(config, trainer=replace(trainer, **trainer_changes), **rest)


def small_store() -> SmallStore:
    lengths = [9, 30, 46, 5, 22, 17, 40, 33, 8, 25]
    splits = ["train", "train", "validation", "train", "train"] * 2
    return SmallStore(lengths, CHUNKING.chunk_size, splits)


def small_datamodule(config: Config, *, retrieval: bool = True) -> RetroDataModule:
    store = small_store()
    return RetroDataModule(
        store,
        SmallTable(store) if retrieval else None,
        chunking=config.chunking,
        neighbours=config.neighbours,
        schedule=config.schedule,
        trainer=config.trainer,
        eval=config.eval,
        seed=config.seed,
    )


def small_model(*, retrieval: bool = True, dropout: float = 0.2) -> Retro:
    torch.manual_seed(0)
    return Retro(
        RetroConfig(
            vocab_size=VOCABULARY,
            d_model=16,
            num_layers=2,
            num_heads=2,
            head_dim=8,
            d_ff=32,
            cca_layers=(1,) if retrieval else (),
            encoder_d_model=16,
            encoder_num_layers=1,
            encoder_cca_layers=(1,),
            chunk_size=CHUNKING.chunk_size,
            neighbour_length=8,
            pad_id=PAD,
            dropout=dropout,
        )
    )


def small_fit(
    folder: Path,
    config: Config,
    *,
    model: Retro | None = None,
    retrieval: bool = True,
    steps: int | None = None,
    trained_as: dict[str, Any] | None = None,
    **phase: Any,
) -> tuple[Retro, FitResult]:
    """Trains with metrics.jsonl in `folder`, from its checkpoint if there is one.

    Args:
        steps: in place of the schedule's.
        phase: fields of the phase that are not the configuration's.
    """
    model = model or small_model(retrieval=retrieval)
    schedule = phase.pop("schedule", config.schedule)
    if steps is not None:
        schedule = replace(schedule, steps=steps)
    asked = replace(Phase.first(config, "training", PAD), schedule=schedule, **phase)
    logger = JsonlLogger(folder / METRICS, resumable_step(folder))
    datamodule = small_datamodule(config, retrieval=retrieval)
    result = fit(model, datamodule, asked, config, folder, [logger], trained_as)
    return model, result


def optimiser_config(name: str) -> OptimConfig:
    return MuonConfig(lr=1e-2) if name == "muon" else AdamWConfig(lr=1e-2)

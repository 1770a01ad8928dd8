"""Broadcasts a decision of the first rank to all ranks of distributed training."""

from __future__ import annotations

from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy

from retro_lab.config.schema import TrainerConfig

from .fit import RANK_TIMEOUT, quiet_lightning


def broadcast_decision(config: TrainerConfig, decision: bool) -> bool:
    """The first rank's `decision`, on all ranks; every rank must call this.

    Ranks can't decide by reading files, which may change between their reads. Lightning's processes
    are launched here and stay connected for training.
    """
    if config.devices * config.num_nodes == 1:
        return decision
    with quiet_lightning():
        strategy = Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=DDPStrategy(timeout=RANK_TIMEOUT),  # FSDP's processes are connected alike
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).strategy
        assert isinstance(strategy, DDPStrategy)
        assert strategy.launcher is not None
        strategy.launcher.launch(strategy.setup_environment)
    return strategy.broadcast(decision)

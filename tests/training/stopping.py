"""Callbacks as a user would write them."""

from __future__ import annotations

from pytorch_lightning import Callback


class StopAt(Callback):
    """Ends training after a step."""

    def __init__(self, step: int = 6) -> None:
        if step < 1:
            raise ValueError(f"no step {step}")
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.step


class Imitation:
    """Has a callback's methods and is none."""

    setup = on_train_batch_end = on_validation_end = state_dict = None

"""A callback of one's own: says that training goes on."""

from pytorch_lightning import Callback


class Heartbeat(Callback):
    def __init__(self, every: int = 50):
        self.every = every

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step % self.every == 0:
            print("still training, step", trainer.global_step)

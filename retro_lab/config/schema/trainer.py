"""Group `trainer`: the hardware and the rhythm of training; of it only precision makes a run."""

from __future__ import annotations

from dataclasses import dataclass


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

    name: str = "cpu"
    accelerator: str = "cpu"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    accumulate: int = 1
    threads: int | None = None
    num_workers: int = 0
    compile: bool = False
    checkpointing: bool = False
    val_every: int = 200
    val_windows: int | None = 32
    log_every: int = 10
    checkpoint_every: int = 100

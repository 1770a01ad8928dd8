"""Checkpoints of a run: paths, atomic writing with checksums, and checked reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import differing
from retro_lab.config.refusals import is_refused
from retro_lab.store.checksums import check_recorded, recorded

LAST = "last.ckpt"
BEST = "best.ckpt"
TRAINED_AS = "trained_as"  # checkpoint field with the settings that determine its weights
_REQUIRED = ("state_dict", "global_step")
_MODEL = "model."


class RecordedCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints atomically, with a checksum, from one process.

    Lightning's own writer may copy over the old checkpoint from a folder on another file system.
    Here the old checkpoint stays until the new file beside it is flushed to disk.

    Args:
        trained_as: settings that determine the weights, written into every checkpoint.
    """

    def __init__(self, trained_as: dict[str, Any]) -> None:
        self.trained_as = trained_as

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Writes one file atomically; raises OSError with its path if the disk is full."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with recorded(target) as temporary, temporary.open("wb") as file:
            torch.save({**checkpoint, TRAINED_AS: self.trained_as}, file)


def read_checkpoint(path: Path, trained_as: dict[str, Any] | None = None) -> dict[str, Any]:
    """A checkpoint's content on the CPU, with memory-mapped tensors.

    Args:
        trained_as: the run's settings, which the checkpoint's must equal.

    Raises:
        UserError: the checkpoint is damaged, or was trained with other settings.
        OSError, MemoryError, RuntimeError: reading failed for reasons outside the file.
    """
    fix = (
        f"put back a copy of it; or move {path.parent} away, and the train.py command trains the "
        "run again"
    )
    check_recorded(path, fix)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged bytes without a recorded checksum can raise anything
        if is_refused(error) or isinstance(error, FileNotFoundError):
            raise
        raise UserError(f"{path} is damaged: torch cannot read it", fix=fix) from error
    missing = [
        name for name in _REQUIRED if not isinstance(checkpoint, dict) or name not in checkpoint
    ]
    if missing:
        raise UserError(f"{path} is no checkpoint of a run: it has no {missing[0]}", fix=fix)
    wrong = differing(checkpoint.get(TRAINED_AS, {}), trained_as or {})
    if wrong:
        raise UserError(
            f"{path} was written by a run of another configuration: {'; '.join(wrong)}",
            fix="put this run's own checkpoint and config.yaml back; or move "
            f"{path.parent} away, and the train.py command trains the run again",
        )
    return checkpoint


def checkpoint_folder(run_dir: Path) -> Path:
    """The folder of a run's checkpoints."""
    return run_dir / "checkpoints"


def resumable_step(run_dir: Path, trained_as: dict[str, Any] | None = None) -> int:
    """Optimiser steps done at a run's last checkpoint; 0 without a checkpoint.

    Args:
        trained_as: the run's settings by `weights_fields`, which the checkpoint's must equal.

    Raises:
        UserError: naming the settings that differ.
    """
    path = checkpoint_folder(run_dir) / LAST
    return read_checkpoint(path, trained_as)["global_step"] if path.exists() else 0


def model_weights(path: Path, trained_as: dict[str, Any] | None = None) -> dict[str, Tensor]:
    """The model's `state_dict` from a checkpoint of `fit`, on the CPU, without a joint gate.

    Args:
        trained_as: the run's settings by `weights_fields`, which the checkpoint's must equal.

    Raises:
        UserError: naming the settings that differ.
    """
    state = read_checkpoint(path, trained_as)["state_dict"]
    return {
        name.removeprefix(_MODEL): value for name, value in state.items() if name.startswith(_MODEL)
    }


def drop_checkpoints(run_dir: Path) -> None:
    """Removes a run's checkpoints, the resumable one first."""
    for name in (LAST, BEST):
        (checkpoint_folder(run_dir) / name).unlink(missing_ok=True)

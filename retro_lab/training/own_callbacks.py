"""Lightning callbacks that the configuration names, and further arguments of its Trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler

from retro_lab.config.errors import UserError, first_line, problem
from retro_lab.config.parts import part_class, part_keywords
from retro_lab.config.schema import CallbacksConfig, OwnPart

_PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def build_callbacks(config: CallbacksConfig) -> list[Callback]:
    """The callbacks of a configuration, early stopping last.

    Raises:
        UserError: a class can't be imported, refuses its settings, or is no callback.
    """
    made = [_built(name, part) for name, part in config.named.items()]
    stopping = config.early_stopping
    if stopping is not None:
        made.append(EarlyStopping(**dataclasses.asdict(stopping)))
    return made


def trainer_extra(extra: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Arguments for Lightning's Trainer; a profiler writes its report into the run's directory."""
    found = dict(extra)
    if "profiler" in found:
        found["profiler"] = _PROFILERS[found["profiler"]](dirpath=run_dir, filename="profile")
    return found


def _built(name: str, part: OwnPart) -> Callback:
    kind = part_class(part, "callbacks.")
    settings = f"callbacks.settings.{name}."
    try:
        made = kind(**part_keywords(part, settings))
    except UserError:
        raise
    except Exception as error:
        refused = f"callbacks.class=[{part.cls}] refuses its settings: {first_line(error)}"
        raise UserError(refused, fix=f"{settings}<setting>=<value>") from error
    if not isinstance(made, Callback):
        rule = "is no Callback of pytorch_lightning"
        raise problem("callbacks.class", [part.cls], rule, "inherit from Callback")
    return made

"""Registers the sweepers of this package with Hydra."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from .grid_sweeper import GridSweeper
from .optuna_sweeper import OptunaSweeper


def register_sweepers() -> None:
    """Registers OptunaSweeper, and GridSweeper in place of Hydra's basic sweeper."""
    known = Plugins.instance().class_name_to_class
    for sweeper in (GridSweeper, OptunaSweeper):  # Hydra requires this namespace
        known[f"hydra_plugins.retro_lab.{sweeper.__name__}"] = sweeper
    grid = {"_target_": "hydra_plugins.retro_lab.GridSweeper", "max_batch_size": None, "params": {}}
    ConfigStore.instance().store("basic", grid, group="hydra/sweeper", provider="retro_lab")

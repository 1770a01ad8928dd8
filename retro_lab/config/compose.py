"""Composes a primary config outside a command: for `validate`, tests and notebooks."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from .paths import conf_dir
from .register import register
from .schema import Config
from .secrets import refuse_passwords
from .text_keys import as_typed
from .typed import to_config


def compose_root(config_name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """What `<command> <overrides>` would run with, its `hydra` node included.

    Raises:
        hydra.errors.HydraException: as Hydra raises it; `explain` turns it into words.
        UserError: an override holds a password, which Hydra would print.
    """
    refuse_passwords(overrides)
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config_name, as_typed(overrides), return_hydra_config=True)


def load_config(overrides: Sequence[str] = ()) -> Config:
    """The typed configuration of `python train.py <overrides>`; not checked, not canonical."""
    return to_config(compose_root("train", overrides))

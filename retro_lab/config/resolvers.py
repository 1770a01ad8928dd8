"""OmegaConf resolvers that conf/ uses: `${run_name:}` and `${options:<group>}`."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from .fingerprints import run_name
from .paths import options
from .typed import to_config


def register_resolvers() -> None:
    """Makes the resolvers known; safe to repeat."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
    OmegaConf.register_new_resolver("options", _options, replace=True)


def _run_name(*, _root_: DictConfig) -> str:
    return run_name(to_config(_root_))


def _options(group: str) -> str:
    return ", ".join(options(group))

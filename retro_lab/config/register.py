"""Registers every schema with Hydra's ConfigStore, so that YAML under conf/ is typed."""

from __future__ import annotations

from functools import cache

from hydra.core.config_store import ConfigStore

from .resolvers import register_resolvers
from .schema.catalogue import SCHEMAS


@cache
def register() -> None:
    """Stores every schema as `schema/<group>/<name>`, and the resolvers; once a process."""
    store = ConfigStore.instance()
    for path, node in SCHEMAS.items():
        group, _, name = f"schema/{path}".rpartition("/")
        store.store(group=group, name=name, node=node, provider="retro_lab")
    register_resolvers()

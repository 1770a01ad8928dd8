"""The boundary: a composed Hydra configuration becomes dataclasses, once."""

from __future__ import annotations

import dataclasses
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from .errors import ConfigError, UserError
from .file_paths import with_plain_paths
from .keys import unknown_key
from .schema import Config


def to_config(root: DictConfig) -> Config:
    """The run's configuration as dataclasses, read from a root that may hold `hydra` too.

    Raises:
        ConfigError: a required value is missing, or a key is in no schema.
    """
    return to_typed(root, Config)


def to_typed(root: DictConfig, schema: type) -> Any:
    """As `to_config`, for any root dataclass; each path in its one spelling."""
    values, problems = {}, []
    for name in root:
        if name == "hydra":
            continue
        try:
            value = root[name]
            values[name] = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        except MissingMandatoryValue as error:
            problems.append(_missing(error.full_key or str(name)))
    known = {field.name for field in dataclasses.fields(schema)}
    problems += [unknown_key(str(name)) for name in values if name not in known]
    for name, value in values.items():
        problems += [unknown_key(key) for key in _added_keys(str(name), value)]
    if problems:
        raise ConfigError(problems)
    return with_plain_paths(schema(**values))


def _missing(key: str) -> UserError:
    return UserError(f"{key} has no value and needs one", fix=f"add {key}=<value>")


def _added_keys(prefix: str, value: Any) -> list[str]:
    """Attributes that `+key=value` put on a dataclass beyond its fields."""
    if not dataclasses.is_dataclass(value):
        return []
    fields = {field.name for field in dataclasses.fields(value)}
    found = [f"{prefix}.{name}" for name in vars(value) if name not in fields]
    for name in fields:
        found += _added_keys(f"{prefix}.{name}", getattr(value, name))
    return found

"""Composes the configuration from a command line with Hydra and converts it to dataclasses."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from .errors import ConfigError, UserError, refuse_passwords
from .file_paths import with_plain_paths
from .fingerprints import run_name
from .keys import conf_dir, options, refuse_reserved, unknown_key
from .overrides import for_hydra
from .parts import with_own_parts
from .schema import SCHEMAS, Config
from .type_hints import type_hints


@cache
def register() -> None:
    """Registers the schemas with Hydra, and the resolvers `${run_name:}` and `${options:<group>}`.

    A schema's Hydra name is `schema/<group>/<name>`; YAML files under conf/ are typed by it.
    """
    store = ConfigStore.instance()
    for path, node in SCHEMAS.items():
        group, _, name = f"schema/{path}".rpartition("/")
        store.store(group=group, name=name, node=node, provider="retro_lab")

    def name_of_run(*, _root_: DictConfig) -> str:
        return run_name(to_config(_root_))

    OmegaConf.register_new_resolver("run_name", name_of_run, replace=True)
    OmegaConf.register_new_resolver(
        "options", lambda group: ", ".join(options(group)), replace=True
    )


def compose_root(config_name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Composes the configuration of `<command> <overrides>`, `hydra` node included.

    Raises:
        hydra.errors.HydraException: from Hydra; `explain` turns it into a message.
        UserError: an override holds a password, which Hydra would print, or sets a name of Python.
    """
    refuse_passwords(overrides)
    refuse_reserved(overrides)
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config_name, for_hydra(overrides), return_hydra_config=True)


def load_config(overrides: Sequence[str] = ()) -> Config:
    """The typed configuration of `python train.py <overrides>`, neither checked nor canonical."""
    return to_config(compose_root("train", overrides))


def to_config(root: DictConfig) -> Config:
    """The run's configuration as dataclasses; `root` may include the `hydra` node.

    Raises:
        ConfigError: a required value is missing, or a key is in no schema.
    """
    return to_typed(root, Config)


def to_typed(root: DictConfig, schema: type) -> Any:
    """Converts a composed root to the dataclass `schema`, with every path in one spelling.

    The user's own parts are imported: their import paths were typed.

    Raises:
        ConfigError: a required value is missing, a key is in no schema, or a value has the wrong
            type.
        UserError: an own part can't be imported, or does not fit.
    """
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
    hints = type_hints(schema)
    for name in values.keys() & hints.keys():
        problems += _misfits(name, values[name], hints[name])
    if problems:
        raise ConfigError(problems)
    return with_own_parts(with_plain_paths(schema(**values)))


def _missing(key: str) -> UserError:
    return UserError(f"{key} has no value and needs one", fix=f"add {key}=<value>")


def _misfits(key: str, value: Any, hint: Any) -> list[UserError]:
    """Errors for settings whose value has the wrong type.

    OmegaConf converts single values but accepts anything from `${...}` for a group or a list.
    """
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if typing.Any in options:
        return []
    kinds = tuple(typing.get_origin(option) or option for option in options)
    if not isinstance(value, (*kinds, *((int,) if float in kinds else ()))):
        what = "a group of settings" if dataclasses.is_dataclass(kinds[0]) else _called(kinds[0])
        said = f"{key}={value!r} is not {what}"
        return [UserError(said, fix=f"leave {key} out for its default, or write its value")]
    if dataclasses.is_dataclass(value):
        hints = type_hints(type(value))
        return [
            problem
            for field in dataclasses.fields(value)
            for problem in _misfits(
                f"{key}.{field.name}", getattr(value, field.name), hints[field.name]
            )
        ]
    if isinstance(value, list):
        [inner] = next(typing.get_args(o) for o in options if typing.get_origin(o) is list)
        return [
            problem
            for number, item in enumerate(value)
            for problem in _misfits(f"{key}[{number}]", item, inner)
        ]
    return []


def _called(kind: type) -> str:
    return {list: "a list", dict: "a mapping", str: "text"}.get(kind, f"of type {kind.__name__}")


def _added_keys(prefix: str, value: Any) -> list[str]:
    """Keys that `+key=value` added to a dataclass beyond its fields."""
    if not dataclasses.is_dataclass(value):
        return []
    fields = {field.name for field in dataclasses.fields(value)}
    found = [f"{prefix}.{name}" for name in vars(value) if name not in fields]
    for name in fields:
        found += _added_keys(f"{prefix}.{name}", getattr(value, name))
    return found

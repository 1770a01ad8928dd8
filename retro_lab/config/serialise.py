"""Converts a configuration to plain data (YAML) and back.

A field that may hold one of several schemas (a retriever, a corpus) stores the schema's name under
`schema`. Only dataclasses of `retro_lab.config.schema` are accepted.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING

from .errors import UserError
from .files import replacing
from .schema import Config
from .type_hints import type_hints

TAG = "schema"

_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's loader is ten times as fast
_SCALARS = {bool: bool, int: int, float: (int, float), str: str}


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to one with dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def to_plain(value: Any) -> Any:
    """Converts dataclasses to dicts, tagged with the schema's name if part of a hierarchy."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        polymorphic = type(value).__subclasses__() or dataclasses.is_dataclass(type(value).__base__)
        return {TAG: type(value).__name__, **fields} if polymorphic else fields
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    return value


def from_plain(data: Any, kind: Any = Config) -> Any:
    """Inverse of `to_plain`.

    Raises:
        ValueError: unknown key or schema, or a value of another type.
    """
    if data is None:
        return None
    for option in typing.get_args(kind) if _is_union(kind) else (kind,):
        if dataclasses.is_dataclass(option):
            return _dataclass(data, typing.cast(type, option))
        if option in _SCALARS and not isinstance(data, _SCALARS[option]):
            raise ValueError(f"{data!r} is not {option.__name__}")
        if isinstance(option, type) and issubclass(option, Enum):
            return option[data]
        if typing.get_origin(option) is dict:
            _, inner = typing.get_args(option)
            return {name: from_plain(item, inner) for name, item in data.items()}
        if typing.get_origin(option) is list:
            if not isinstance(data, list):
                raise ValueError(f"{data!r} is not a list")
            return [from_plain(item, *typing.get_args(option)) for item in data]
    return data


def write_config(config: Config, path: Path) -> None:
    """Writes the configuration as YAML, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(to_plain(config), sort_keys=False), encoding="utf-8")


def read_config(path: Path, **unsaid: Any) -> Config:
    """Reads the file of `write_config`.

    Args:
        unsaid: values, in place of the defaults, of keys that an older version's file lacks.

    Raises:
        UserError: the file is missing, or is no configuration of this version.
    """
    if not path.is_file():
        raise UserError(
            f"{path.parent} is not a run directory: it has no {path.name}",
            fix="give a directory that train.py printed, such as runs/tiny-bm25-...",
        )
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _SafeLoader) or {}
        lacking = {name: value for name, value in unsaid.items() if name not in data}
        return dataclasses.replace(from_plain(data), **lacking)
    except (ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(
            f"{path} is not a configuration that this version can read: {error}",
            fix="put back a copy, or use the version that wrote it; or remove it and run the "
            "train.py command again, which writes it anew and trains nothing twice",
        ) from error


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def _dataclass(data: Any, kind: type) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{data!r} has no keys, where {kind.__name__} has some")
    data = dict(data)
    tag = data.pop(TAG, kind.__name__)
    options = {option.__name__: option for option in _family(kind)}
    if tag not in options:
        raise ValueError(f"unknown schema {tag}, expected one of {', '.join(options)}")
    hints = type_hints(options[tag])
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ValueError(f"unknown keys {', '.join(unknown)} in {tag}")
    values = {}
    for name, value in data.items():
        try:
            values[name] = from_plain(value, hints[name])
        except (ValueError, KeyError) as error:
            raise ValueError(f"{name}: {error}") from error
    read = options[tag](**values)
    missing = [name for name in hints if getattr(read, name) == MISSING]
    if missing:
        raise ValueError(f"{tag} lacks {', '.join(missing)}")
    return read


def _family(kind: type) -> list[type]:
    return [kind] + [member for child in kind.__subclasses__() for member in _family(child)]

"""The reference of configuration keys, from the schemas and the YAML files of `conf/`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from docstrings import meanings, summary, table
from omegaconf import MISSING

from retro_lab.config.compose import load_config
from retro_lab.config.keys import conf_dir
from retro_lab.config.schema import SCHEMAS, Config, EvaluateConfig, PrepareConfig
from retro_lab.config.schema.setting import Bounds, bounds_of

HEAD = ["key", "type", "default", "range", "names the run", "meaning"]
INTRODUCTION = """\
# Configuration keys

Every key of `python train.py` and `python evaluate.py`, made from the schemas in
`retro_lab/config/schema`. [The overview of groups](../configuration.md) says which to choose.

- **default**: the value in `python train.py` without arguments. For an option that is not chosen
  there, it is the schema's; the option's own file may set another, as listed below it.
- **names the run**: whether another value makes another run, with a directory of its own. For keys
  of `eval` it is another evaluation. Settings that a run does not use are left out of its name.
- A value outside its range is refused before anything is computed.
"""


def page() -> str:
    """The page as Markdown."""
    config = load_config()
    parts = [INTRODUCTION, _top_level(config)]
    groups = dict.fromkeys(name.partition("/")[0] for name in SCHEMAS if "/" in name)
    for group in groups:
        parts += [f"## {group}", f"{_purposes()[group]}.", *_classes(group, config)]
        parts.append(_options(group))
    prepare = table(HEAD, list(_rows(PrepareConfig, config.prepare, "prepare", Bounds())))
    parts += ["## prepare", f"{summary(PrepareConfig)}", prepare]
    for group in ("experiment", "sweep", "debug", "hydra/launcher"):
        parts += [f"## {group}", "Named sets of settings.", _options(group)]
    parts += [
        "## Keys of evaluate.py",
        "Beside these, `evaluate.py` takes the keys of `eval`, `database`, `plain`, `memory` and "
        "`trainer` above.",
        table(HEAD, list(_rows(EvaluateConfig, EvaluateConfig(), "", Bounds(), nested=False))),
    ]
    return "\n\n".join(parts) + "\n"


def _top_level(config: Config) -> str:
    rows = list(_rows(Config, config, "", Bounds(), nested=False))
    rows += _rows(type(config.store), config.store, "store", Bounds(identity=False))
    return "## Single settings\n\n" + table(HEAD, rows)


def _purposes() -> dict[str, str]:
    """Purpose of each group, as `python train.py --help` gives it."""
    text = (conf_dir() / "hydra/help/train.yaml").read_text(encoding="utf-8")
    found = re.findall(r"^    (\w+) +(.*): \$\{options:\w+\}$", text, re.MULTILINE)
    return {group: purpose[0].upper() + purpose[1:] for group, purpose in found}


def _classes(group: str, config: Config) -> Iterator[str]:
    """A heading and a table for the classes of each set of options, bases first."""
    schemas = [cls for name, cls in SCHEMAS.items() if name.startswith(f"{group}/")]
    chain = (base for cls in schemas for base in reversed(cls.__mro__))
    classes = list(dict.fromkeys(cls for cls in chain if dataclasses.is_dataclass(cls)))
    used_by = _schemas_of_options(group)
    outer = next(bounds_of(f) for f in dataclasses.fields(Config) if f.name == group)
    parts: dict[tuple[str, ...], tuple[str, list[list[str]]]] = {}
    for cls in classes:
        options = tuple(name for name, schema in used_by.items() if issubclass(schema, cls))
        prefix = f"{group}.{options[0]}" if _packed(group, options[0]) else group
        chosen = getattr(config, group)
        held = chosen if isinstance(chosen, cls) else cls()
        rows = [row for row in _rows(cls, held, prefix, outer) if _is_own(row[0], prefix, cls)]
        if rows:  # a class and its base that the same options use are one part of the page
            parts[options] = summary(cls), [*parts.get(options, ("", []))[1], *rows]
    for options, (about, rows) in parts.items():
        if len(classes) > 1 and len(options) < len(used_by):
            yield f"### {group}={', '.join(options)}"
            yield about
        yield table(HEAD, rows)


def _is_own(key: str, prefix: str, cls: type) -> bool:
    """Whether a class adds or changes a key; `name`, which every option sets, counts once."""
    name = key.strip("`").removeprefix(f"{prefix}.").partition(".")[0]
    inherited = any(name in inspect.get_annotations(base) for base in cls.__mro__[1:])
    return name in inspect.get_annotations(cls) and not (name == "name" and inherited)


def _rows(
    cls: type, held: Any, prefix: str, outer: Bounds, nested: bool = True
) -> Iterator[list[str]]:
    """A row for each key of a schema, those of nested schemas included if `nested`.

    Args:
        held: an instance with the default values.
        outer: bounds of the field that holds the schema.
    """
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, hint, bounds = (
            f"{prefix}.{field.name}".lstrip("."),
            hints[field.name],
            bounds_of(field),
        )
        identity = dataclasses.replace(bounds, identity=bounds.identity and outer.identity)
        value = getattr(held, field.name)
        kind = typing.get_args(hint)[0] if typing.get_args(hint) else hint
        if dataclasses.is_dataclass(hint) or (not nested and dataclasses.is_dataclass(kind)):
            if nested:
                inside = value if dataclasses.is_dataclass(value) else hint()
                yield from _rows(hint, inside, key, identity)
            continue
        meaning = meanings(cls).get(field.name, "")
        if not meaning:
            raise ValueError(f"{cls.__name__}.{field.name} has no meaning in its docstring")
        names_run = "yes" if identity.identity else "no"
        cells = [f"`{key}`", _type(hint), _value(value), _range(hint, bounds), names_run]
        yield [*cells, meaning[0].upper() + meaning[1:]]


def _type(hint: Any) -> str:
    parts = typing.get_args(hint)
    if parts and typing.get_origin(hint) is list:
        return f"list of {_type(parts[0])}"
    if parts and typing.get_origin(hint) is dict:
        return f"{_type(parts[1])} by name"
    if parts:
        return " or ".join("null" if part is type(None) else _type(part) for part in parts)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "choice"
    if dataclasses.is_dataclass(hint):
        return "group"
    return {str: "text", int: "int", float: "float", bool: "true or false"}.get(hint, "any")


def _value(value: Any) -> str:
    if value == MISSING:
        return "required"
    if isinstance(value, Enum):
        value = value.value
    words = {None: "null", True: "true", False: "false", "": "empty"}
    if isinstance(value, (bool, str, type(None))):
        return f"`{words.get(value, value)}`"
    return f"`{value}`"


def _range(hint: Any, bounds: Bounds) -> str:
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
    choices: list[Any] = [m.value for kind in kinds if issubclass(kind, Enum) for m in kind]
    choices += bounds.choices
    if choices:
        return ", ".join(_value(choice) for choice in choices)
    ends = [("at least", bounds.at_least), ("above", bounds.above)]
    ends += [("at most", bounds.at_most), ("below", bounds.below)]
    return ", ".join(f"{word} {end:,}" for word, end in ends if end is not None)


def _schemas_of_options(group: str) -> dict[str, type]:
    """Schema class of each option of a group, found through the defaults of its YAML file."""
    files = sorted((conf_dir() / group).glob("*.yaml"))
    return {file.stem: SCHEMAS[name] for file in files if (name := _schema_name(file)) in SCHEMAS}


def _packed(group: str, option: str) -> bool:
    """Whether an option's settings stand under its own name: `logger.csv.flush_every`."""
    text = (conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8")
    return f"@{option}\n" in text


def _schema_name(file: Path) -> str:
    for item in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("defaults", []):
        if str(item).startswith("/schema/"):
            return str(item).removeprefix("/schema/").partition("@")[0]
        if (parent := file.with_name(f"{item}.yaml")).is_file():
            return _schema_name(parent)
    return ""


def _options(group: str) -> str:
    """A table of a group's YAML files: what each is, and what it sets."""
    rows = []
    for file in sorted((conf_dir() / group).rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        comment = [line.lstrip("# ") for line in re.match(r"(#.*\n)*", text)[0].splitlines()]
        about = " ".join(line for line in comment if not line.startswith("@package"))
        settings = yaml.safe_load(text) or {}
        chosen = settings.pop("defaults", [])
        changes = [f"`{k.removeprefix('override /')}={v}`" for k, v in _overrides(chosen)]
        changes += [f"`{key}={value}`" for key, value in _flat(settings) if key != "name"]
        option = file.relative_to(conf_dir() / group).with_suffix("").as_posix()
        rows.append([f"`{group}={option}`", about, ", ".join(changes)])
    return table(["option", "what it is", "what it sets"], rows)


def _overrides(defaults: list[Any]) -> Iterator[tuple[str, str]]:
    for item in defaults:
        if isinstance(item, dict):
            yield from item.items()


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "null" if value is None else str(value)

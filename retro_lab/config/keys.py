"""The groups, options and keys of the configuration, and the nearest match to a typo."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from .errors import UserError, as_text
from .schema import SCHEMAS, Config, EvaluateConfig
from .type_hints import type_hints

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    typing.Any: "text or a list of texts (as [a,b])",  # the `run` key of an evaluation
}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclasses.dataclass(frozen=True)
class Key:
    """A configuration key: dotted name, type, owning schema, and default as text."""

    name: str
    type: Any
    owner: str
    default: str | None


def conf_dir() -> Path:
    """Folder of the configuration groups: inside the package in a wheel, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def options(group: str) -> list[str]:
    """Option names of a group, with subfolders as folder/name; k2 sorts before k10."""
    folder = conf_dir() / group
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return sorted(names, key=_natural)


def _natural(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def groups() -> list[str]:
    """Names of the configuration groups, sorted."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir())


def options_of_schema(group: str, schema: str) -> list[str]:
    """Options of a group that are typed by `/schema/<schema>`."""
    folder = conf_dir() / group
    wanted = f"- /schema/{schema}@_here_\n"
    return [name for name in options(group) if wanted in (folder / f"{name}.yaml").read_text()]


@cache
def known_keys() -> tuple[Key, ...]:
    """Keys of all primary configs, including those of every option of a group."""
    return tuple(dict.fromkeys([*_keys("", Config), *_keys("", EvaluateConfig)]))


def unknown_key(name: str, place: str = "") -> UserError:
    """The error for a key or group that does not exist, or is absent from the chosen option.

    Args:
        place: suffix that locates the mistake, such as " (in experiment/x.yaml)".
    """
    node = name.rpartition(".")[0]
    owners = [key.owner for key in known_keys() if key.name == name]
    if not node and (owners or name in groups()):  # debug and the like hold no key of their own
        takers = " or ".join(
            f"python {command}.py" for command in _options_of("", owners) or ["train"]
        )
        return UserError(
            f"{name} is not a setting of this command{place}",
            fix=f"leave it out; {takers} takes it",
        )
    if owners:
        having = [f"{node}={option}" for option in _options_of(node, owners)]
        return UserError(
            f"{name} is not a key of the chosen option of {node}{place}",
            fix=f"leave it out, or choose {' or '.join(having) or 'another option'}",
        )
    near = nearest(name)
    shown = "--cfg hydra" if name.startswith("hydra") else "--cfg job"
    fix = f"did you mean {' or '.join(near)}?" if near else f"{shown} lists the keys there are"
    siblings = sorted(_children(node))
    where = f"; keys of {node}: {', '.join(siblings)}" if node and siblings else ""
    return UserError(f"{name} is not a key of the configuration{place}{where}", fix=fix)


def refuse_reserved(overrides: Iterable[str]) -> None:
    """Refuses keys with a part such as `__class__`, with which OmegaConf fails elsewhere.

    Raises:
        UserError: names the key.
    """
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if any(part.startswith("__") for part in key.split(".")):
            raise unknown_key(key)


def bad_value(name: str, given: str, said: str, place: str = "") -> UserError:
    """The error for a value of the wrong type.

    Args:
        given: the assignment as the user wrote it.
        said: the original error text, for keys outside our schemas.
    """
    found = [key for key in known_keys() if key.name == name.partition("[")[0]]
    if not found:
        return UserError(f"{given}{place}: {said}")
    default, value = found[0].default, given.partition("=")[2]
    fix = None if default is None else f"for example {found[0].name}={default}, the default"
    if not value.startswith("[") and _is_item(value, found[0].type):
        fix = f"{found[0].name}=[{value}]"
    return UserError(f"{given}{place}: expected {describe(found[0].type)}", fix=fix)


def nearest(name: str) -> list[str]:
    """Up to three known keys or groups closest to `name`, best first."""
    if name.startswith("hydra."):
        return []  # Hydra's own keys are not in our schemas
    names = list(dict.fromkeys([key.name for key in known_keys()]))
    leaf = name.rpartition(".")[2]
    same_leaf = [known for known in names if known.rpartition(".")[2] == leaf]
    if same_leaf:
        return difflib.get_close_matches(name, same_leaf, n=3, cutoff=0.0)
    others = [*groups(), "hydra/launcher", "hydra/sweeper"]
    return difflib.get_close_matches(name, [*names, *others], n=1, cutoff=0.6)


def describe(kind: Any) -> str:
    """A type in words: `int | None` becomes "a whole number or null"."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = [describe(arg) for arg in args if arg is not type(None)]
        return " or ".join([*inner, "null"] if type(None) in args else inner)
    if origin is list:
        return f"a list of {_PLURALS[args[0]]} (as [a,b])"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(member.name for member in kind)
    if dataclasses.is_dataclass(kind) or origin is dict:
        return "keys below it"
    return _WORDS[kind]


def _is_item(value: str, kind: Any) -> bool:
    """Whether a key of this type takes a list and `value` fits as one item."""
    for option in [kind, *typing.get_args(kind)]:
        if typing.get_origin(option) is list:
            [item] = typing.get_args(option)
            try:
                item(value)
            except ValueError:
                return False
            return True
    return False


def _keys(prefix: str, schema: type) -> Iterator[Key]:
    """Keys of a schema and its subclasses, since any option of a group may be chosen."""
    for option in [schema, *subclasses(schema)]:
        hints = type_hints(option)
        for field in dataclasses.fields(option):
            kind = hints[field.name]
            name = f"{prefix}{field.name}"
            yield Key(name, kind, option.__name__, _default(field))
            if typing.get_origin(kind) is dict:
                continue  # the user chooses its names
            for inner in [kind, *typing.get_args(kind)]:
                if dataclasses.is_dataclass(inner):
                    yield from _keys(f"{name}.", typing.cast(type, inner))


def _default(field: dataclasses.Field) -> str | None:
    """The field's default as typed on the command line; None for no default or a whole group."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value in (dataclasses.MISSING, "???") or dataclasses.is_dataclass(value):
        return None
    return as_text(value)


def _children(node: str) -> set[str]:
    prefix = f"{node}."
    tails = [key.name.removeprefix(prefix) for key in known_keys() if key.name.startswith(prefix)]
    return {tail for tail in tails if "." not in tail}


def _options_of(node: str, owners: list[str]) -> list[str]:
    """Options of group `node` whose schema is among `owners`."""
    paths = [path for path, schema in SCHEMAS.items() if schema.__name__ in owners]
    return [option for path in paths for option in options_of_schema(node, path)]


def subclasses(schema: type) -> Iterator[type]:
    """All subclasses of a schema, the options of its group."""
    for subclass in schema.__subclasses__():
        yield subclass
        yield from subclasses(subclass)

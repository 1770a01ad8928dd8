"""Imports a user's own parts: retrievers, readers, embedders, metrics and callbacks.

A part that is typed on the command line is imported and checked when the configuration is composed.
A part that a stored run names is imported when it is needed, and only with consent (`consent.py`).
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from pkgutil import resolve_name
from types import NoneType, UnionType
from typing import Any, TypeVar

from .consent import TRUST, allow, is_allowed
from .errors import ConfigError, UserError, as_text, first_line, problem
from .refusals import is_short_of_memory
from .schema import OwnPart, OwnParts
from .schema.setting import own_problems

C = TypeVar("C")

REQUIRED = {
    "retriever": ("exact", "index_fields", "build", "candidates", "save", "load"),
    "reader": ("files", "fields", "documents", "input_digest"),
    "embedder": ("query", "content_fields", "embed"),
    "callback": ("setup", "on_train_batch_end", "on_validation_end", "state_dict"),
}
"""Members that a class must have, by kind; the protocols define most of them for subclasses."""

_BY_KEYWORDS = ("callback", "metric")  # the others get one object with their settings

_PLAIN = {bool, int, float, str, list, tuple, dict, NoneType}
_DOCS = "docs/own_parts.md shows a whole one"
# Packages whose own classes are known by name: another version is no other run.
_KNOWN_BY_NAME = ("pytorch_lightning",)


def with_own_parts(config: C, prefix: str = "") -> C:
    """The typed configuration with each own part imported, checked and fingerprinted.

    Args:
        prefix: key of the configuration with a trailing dot; empty for the root.

    Raises:
        UserError: a class can't be imported, lacks a member, or does not take its settings.
    """
    if isinstance(config, OwnPart):
        allow(config.cls)
        return typing.cast(C, _stated(config, prefix))
    if isinstance(config, OwnParts):
        return typing.cast(C, _all_stated(config, prefix))
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value, key = getattr(config, field.name), f"{prefix}{field.name}."
        if dataclasses.is_dataclass(value):
            changed[field.name] = with_own_parts(value, key)
        elif isinstance(value, dict):
            changed[field.name] = {
                name: with_own_parts(item, f"{key}{name}.")
                if dataclasses.is_dataclass(item)
                else item
                for name, item in value.items()
            }
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]


def part_class(part: OwnPart, prefix: str = "") -> Any:
    """The class of a part, or the function of a metric.

    Raises:
        UserError: it may not be imported, can't be, lacks a member, or changed since the run.
    """
    if not is_allowed(part.cls):
        raise UserError(
            f"this run's {part.kind} is {part.cls}, which is no part of retro_lab: its code would "
            "be imported and run here",
            fix=f"read that code, then set {TRUST}={part.cls} in the environment to allow it",
        )
    found = imported(part.cls, f"{prefix}class", part.kind)
    lacking = [name for name in REQUIRED.get(part.kind, ()) if not hasattr(found, name)]
    if lacking:
        rule = f"is no {part.kind}: it has no {', '.join(lacking)}"
        raise problem(f"{prefix}class", part.cls, rule, _DOCS)
    if part.source is not None and part.source != source_digest(found):
        raise UserError(
            f"{prefix}class={part.cls}: {_file_of(found)} is not the file that this run was made "
            "with",
            fix="put the file back as it was; or train again, since an edited file is another run",
        )
    return found


def part_settings(part: OwnPart, prefix: str = "settings.") -> Any:
    """What a class is constructed from: an instance of its own dataclass of settings.

    The dataclass is the annotation of the first parameter of `__init__`. A class without one is
    given an instance of `NoSettings`, and takes no settings.

    Raises:
        UserError: as `part_class`, or a setting is unknown, missing or of another type.
    """
    schema = _settings_schema(part_class(part))
    made = schema(**_checked(schema, part, prefix))
    broken = list(own_problems(made, prefix))
    if broken:
        raise ConfigError(broken)
    return made


def part_keywords(part: OwnPart, prefix: str = "settings.") -> dict[str, Any]:
    """The settings as keyword arguments of a callback's class or a metric's function.

    Raises:
        UserError: as `part_settings`.
    """
    return _checked(part_class(part), part, prefix)


def own_fields(config: Any) -> dict[str, Any]:
    """What identifies an own part in a stage's key; empty for parts of this package."""
    if not isinstance(config, OwnPart):
        return {}
    return {"class": config.cls, "settings": config.settings, "source": config.source}


@contextmanager
def own_code(part: OwnPart) -> Iterator[None]:
    """A context for code of a user's own: its exceptions become a message with file and line.

    Under HYDRA_FULL_ERROR=1 they pass unchanged, for their traceback.

    Raises:
        UserError: the code in the context failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_short_of_memory(error) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise UserError(
            f"the {part.kind} {part.cls} failed in {_place(error, part)}: "
            f"{type(error).__name__}: {first_line(error)}",
            fix=f"correct its settings, its input or the {part.kind} itself; HYDRA_FULL_ERROR=1 in "
            "the environment shows the traceback",
        ) from error


def _place(error: Exception, part: OwnPart) -> str:
    """File and line where a part failed: the last line of its own file that the error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = str(_file_of(part_class(part)))
    frame = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
    return f"{frame.filename}, line {frame.lineno}"


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """Given to a class whose `__init__` names no dataclass of settings."""


@cache
def source_digest(found: Any) -> str | None:
    """SHA-256 of the file that defines a class or function, as it was first seen here.

    None for a class of a package that is known by name, or without a file.
    """
    path = _file_of(found)
    if path is None or found.__module__.partition(".")[0] in _KNOWN_BY_NAME:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stated(part: OwnPart, prefix: str, inside: str | None = None) -> OwnPart:
    """The part with its source and the facts that its class states.

    Args:
        inside: key of its settings with a trailing dot; by default below `prefix`.
    """
    found = part_class(part, prefix)
    taken = part_keywords if part.kind in _BY_KEYWORDS else part_settings
    taken(part, f"{prefix}settings." if inside is None else inside)
    facts = {name: bool(getattr(found, name, False)) for name in part.facts}
    return dataclasses.replace(part, source=source_digest(found), **facts)


def _all_stated(parts: OwnParts, prefix: str) -> OwnParts:
    broken = list(parts.problems(prefix))
    if broken:
        raise ConfigError(broken)
    sources = {}
    for name, part in parts.named.items():
        allow(part.cls)
        stated = _stated(part, prefix, f"{prefix}settings.{name}.")
        if stated.source is not None:
            sources[part.cls] = stated.source
    return dataclasses.replace(parts, sources=sources)


def imported(name: str, key: str, kind: str) -> Any:
    """The class or function that a user named.

    Args:
        name: `module:Class`, or the name of an installed entry point.
        key: that it was given to, for messages.
        kind: what it is, in the singular.

    Raises:
        UserError: it can't be imported, or is neither a class nor a function.
    """
    path = name if ":" in name else _entry_point(name, key, kind)
    module, _, member = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # an installed script's path lacks the working directory
    try:
        import_module(module)
    except Exception as error:
        raise _not_imported(error, module, key, name) from error
    try:
        found = resolve_name(path)
    except AttributeError:
        near = difflib.get_close_matches(member, dir(sys.modules[module]), n=1)
        fix = f"{key}={module}:{near[0]}" if near else f"{key}={module}:<a name in that file>"
        raise problem(
            key, name, f"{module} has no {member or 'name behind the colon'}", fix
        ) from None
    if not callable(found):
        raise problem(key, name, f"is {type(found).__name__}, not a class or function", _DOCS)
    return found


def _not_imported(error: Exception, module: str, key: str, name: str) -> UserError:
    missing = (isinstance(error, ModuleNotFoundError) and error.name) or ""
    if missing and f"{module}.".startswith(f"{missing}."):
        return problem(
            key,
            name,
            f"there is no module {missing} in {Path.cwd()} or among the installed packages",
            f"run the command in the folder that holds {missing}.py, or install it",
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename}, line {frame.lineno}"
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}"
    return problem(
        key,
        name,
        f"importing {module} failed in {place}: {type(error).__name__}: {first_line(error)}",
        f'python -c "import {module}" shows the whole error',
    )


def _entry_point(name: str, key: str, kind: str) -> str:
    """The import path of an installed entry point of the group `retro_lab.<kind>s`."""
    group = f"retro_lab.{kind}s"
    installed: EntryPoints = entry_points(group=group)
    for entry in installed.select(name=name):
        return entry.value
    names = ", ".join(sorted({entry.name for entry in installed})) or "none"
    raise problem(
        key,
        name,
        f"is no installed entry point of {group} (there are: {names})",
        f"{key}=module:Class names a class in a file or package",
    )


def _settings_schema(found: Any) -> type:
    parameters = list(inspect.signature(found.__init__).parameters)[1:2]
    hint = _hints(found.__init__).get(parameters[0]) if parameters else None
    return hint if dataclasses.is_dataclass(hint) and isinstance(hint, type) else NoSettings


def _checked(taking: Any, part: OwnPart, prefix: str) -> dict[str, Any]:
    """The settings, each known to `taking` and of its type.

    Args:
        taking: a class or function; of a function the first parameter is no setting.
    """
    parameters = list(inspect.signature(taking).parameters.values())
    if not isinstance(taking, type):
        parameters = parameters[1:]
    named = {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    hints = _hints(taking.__init__ if isinstance(taking, type) else taking)
    broken: list[UserError] = []
    for name, value in part.settings.items():
        key = f"{prefix}{name}"
        if name not in named and not open_ended:
            known = f"its settings: {', '.join(named) or 'none'}"
            near = difflib.get_close_matches(name, named, n=1)
            fix = f"did you mean {prefix}{near[0]}?" if near else "leave it out"
            broken.append(problem(key, value, f"is no setting of {part.cls}; {known}", fix))
        elif name in hints and not _fits(value, hints[name]):
            broken.append(_misfit(key, value, hints[name], part))
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in part.settings:
            lacks = f"{prefix}{name} has no value, and {part.cls} needs one"
            broken.append(UserError(lacks, fix=f"add {prefix}{name}=<value>"))
    if broken:
        raise ConfigError(broken)
    return dict(part.settings)


def _misfit(key: str, value: Any, hint: Any, part: OwnPart) -> UserError:
    expected = inspect.formatannotation(hint)
    text = hint is str and not isinstance(value, (list, dict))
    fix = f"quote it twice: '{key}=\"{as_text(value)}\"'" if text else f"{key}=<{expected}>"
    return problem(key, value, f"{part.cls} expects {expected}", fix)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; True for types that aren't plain, which the class checks."""
    union = typing.get_origin(hint) in (typing.Union, UnionType)
    kinds = [typing.get_origin(o) or o for o in (typing.get_args(hint) if union else (hint,))]
    if not set(kinds) <= _PLAIN:
        return True
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, tuple(kinds)) or (float in kinds and isinstance(value, int))


def _hints(of: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations of a function; empty if one of them can't be evaluated."""
    try:
        return typing.get_type_hints(of)
    except (NameError, TypeError, AttributeError):
        return {}


def _file_of(found: Any) -> Path | None:
    file = getattr(sys.modules.get(found.__module__), "__file__", None)
    return None if file is None else Path(file)

"""Settings that name files or folders: one spelling for each, and where a relative one starts.

A run's key is made of the spelling, so `base.jsonl`, `./base.jsonl` and the absolute path must be
one. The spelling is kept relative below the working directory, because runs move with it. Fields
that hold paths say so (`setting(..., path=True)`); some may be a name on the hub instead, which is
what there is no file of.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .schema.setting import bounds_of

C = TypeVar("C")


def with_plain_paths(config: C) -> C:
    """The configuration with each path in its one spelling, as of `plain_path`."""
    return _with_paths(config, plain_path)


def located(config: C, folder: Path) -> C:
    """The configuration with relative paths made whole where they are found below a folder."""
    return _with_paths(config, lambda path: located_path(path, folder))


def plain_path(path: str) -> str:
    """A path without `~`, `./`, `a/../` and a last slash: relative in the working directory or
    below it, absolute elsewhere; a name that there is no file of is left as it is.

    Links keep their names, since what they point to may change; a `..` behind one is kept.
    """
    if not _is_there(path):
        return path
    given = Path(path).expanduser()
    whole = Path(os.path.abspath(given))  # noqa: PTH100  (links keep their names)
    if ".." in given.parts and whole.resolve() != given.resolve():
        return path
    for folder in (whole, *whole.parents):
        if _exists(folder) and folder.samefile(Path.cwd()):
            return str(whole.relative_to(folder))
    return str(whole)


def located_path(path: str, folder: Path) -> str:
    """A relative path made absolute where there is such a file below the folder."""
    whole = folder / path
    return str(whole.absolute()) if not path.startswith("~") and _is_there(str(whole)) else path


def _is_there(path: str) -> bool:
    """Whether it names a file or folder, or a pattern of some; a name on the hub never does."""
    return bool(path) and (glob.has_magic(path) or _exists(Path(path).expanduser()))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a folder that may not be read, or a name that is too long
        return False


def _with_paths(config: C, change: Callable[[str], str]) -> C:
    changed: Any = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if bounds_of(field).path:
            changed[field.name] = _changed(value, change)
        elif dataclasses.is_dataclass(value):
            changed[field.name] = _with_paths(value, change)
        elif isinstance(value, dict):
            changed[field.name] = {
                name: _with_paths(item, change) if dataclasses.is_dataclass(item) else item
                for name, item in value.items()
            }
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [change(item) for item in value]
    return None if value is None else change(value)

"""One spelling for each setting that names a file or folder, and the base of relative paths.

The spelling enters the run key, so `base.jsonl`, `./base.jsonl` and the absolute path must agree.
Paths below the working directory stay relative, because runs move with the directory. Path fields
are declared with `setting(..., path=True)`; a value without a local file may be a name on the hub.
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
    """The configuration with each path in the spelling of `plain_path`."""
    return _with_paths(config, plain_path)


def located(config: C, folder: Path) -> C:
    """The configuration with relative paths made absolute if they exist below `folder`."""
    return _with_paths(config, lambda path: located_path(path, folder))


def plain_path(path: str) -> str:
    """A path without `~`, `./`, `a/../` and trailing slash.

    Paths in or below the working directory become relative, others absolute. A name without a local
    file stays as given. Links keep their names, since their targets may change; a `..` after a link
    is kept.
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
    """The absolute path below `folder` if that file exists; otherwise `path` unchanged."""
    whole = folder / path
    return str(whole.absolute()) if not path.startswith("~") and _is_there(str(whole)) else path


def _is_there(path: str) -> bool:
    """Whether the text is a glob pattern or names an existing file or folder."""
    return bool(path) and (glob.has_magic(path) or _exists(Path(path).expanduser()))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # unreadable parent folder, or name too long
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

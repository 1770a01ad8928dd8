"""Settings that name files or folders: one spelling for each, and where a relative one starts.

A run's key is made of the spelling, so `base.jsonl`, `./base.jsonl` and the absolute path must be
one. The spelling is kept relative below the working directory, because runs move with it.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .schema import (
    DatabaseConfig,
    DenseNeuralRetrieverConfig,
    DualEncoderConfig,
    FileCorpusConfig,
    HfCorpusConfig,
    HfTokenizerConfig,
    NorlundCorpusConfig,
    QaConfig,
    RecipeConfig,
    SentenceTransformerConfig,
    SplitConfig,
)

_FIELDS: dict[type, tuple[str, ...]] = {
    SplitConfig: ("train_ids", "validation_ids", "test_ids"),
    FileCorpusConfig: ("path", "validation_path", "test_path"),
    NorlundCorpusConfig: ("tokenizer",),
    HfCorpusConfig: ("path",),
    DatabaseConfig: ("add",),
    HfTokenizerConfig: ("path",),
    SentenceTransformerConfig: ("model",),
    DualEncoderConfig: ("query_model", "key_model"),
    DenseNeuralRetrieverConfig: ("model",),
    RecipeConfig: ("backbone",),
    QaConfig: ("questions",),
}
"""Some of them may be a name on the hub instead; that one is which there is a file of."""

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
        if dataclasses.is_dataclass(value):
            changed[field.name] = _with_paths(value, change)
        elif isinstance(value, dict):
            changed[field.name] = {
                name: _with_paths(item, change) if dataclasses.is_dataclass(item) else item
                for name, item in value.items()
            }
    for kind, names in _FIELDS.items():
        if isinstance(config, kind):
            changed |= {name: _changed(getattr(config, name), change) for name in names}
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [change(item) for item in value]
    return None if value is None else change(value)

"""Stages and their results, identified by a key computed from their content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

# None, bool, int, float, str, and lists and string-keyed mappings of them.
JSON: TypeAlias = Any

# Part of every key; raise when the layout of the store or the meaning of a key changes.
SCHEMA_VERSION = 1
KEY_DIGITS = 16
KEY = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}")
NAME = re.compile(r"[a-z][a-z0-9_]*")
LOCKS_FOLDER = "locks"  # beside the stages' folders, so no stage may have this name


def canonical_json(value: JSON) -> str:
    """Canonical JSON of `value`, the same text for equal values: sorted keys, no spaces, ASCII.

    Tuples become lists, numpy scalars numbers.

    Raises:
        TypeError: a value that JSON lacks.
        ValueError: NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def digest(value: JSON) -> str:
    """SHA-256 of the canonical JSON of `value`, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A published, immutable stage result: a folder of files with a manifest."""

    stage: str
    key: str
    path: Path
    manifest: dict[str, JSON] = field(repr=False)

    def file(self, name: str) -> Path:
        """Path of a file of the artifact; ValueError lists the existing files."""
        if name not in self.manifest["files"]:
            held = ", ".join(sorted(self.manifest["files"]))
            raise ValueError(f"{self.stage}/{self.key} has no file {name!r}; it has {held}")
        return self.path / name

    @property
    def stats(self) -> dict[str, JSON]:
        """The builder's counts, for messages and results.json."""
        return self.manifest["stats"]


@dataclass(frozen=True)
class Stage:
    """A stage to build; every field enters the key, so only settings that change the result belong.

    Attributes:
        name: kind of the result ("chunks"), also the name of its folder in the store.
        version: raise when the code's output changes.
        fields: the settings that change the content, as JSON.
        parents: the results that the stage reads, built or not, by role.
        inputs: digests of raw inputs, by name.
    """

    name: str
    version: int
    fields: Mapping[str, JSON]
    parents: Mapping[str, Artifact | Stage]
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name == LOCKS_FOLDER:
            raise ValueError(f"a stage can't be named {self.name!r}")

    @cached_property
    def spec(self) -> dict[str, JSON]:
        """Everything that identifies the stage, as plain JSON; the key is its digest."""
        parents = {role: {"stage": stage, "key": key} for role, (stage, key) in self._parents()}
        spec = {
            "schema": SCHEMA_VERSION,
            "stage": self.name,
            "version": self.version,
            "fields": dict(self.fields),
            "parents": parents,
            "inputs": dict(self.inputs),
        }
        return json.loads(canonical_json(spec))

    @cached_property
    def key(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON of `spec`."""
        return digest(self.spec)[:KEY_DIGITS]

    def __str__(self) -> str:
        return f"{self.name}/{self.key}"

    def _parents(self) -> list[tuple[str, tuple[str, str]]]:
        return [(role, identity(parent)) for role, parent in self.parents.items()]


def identity(item: Artifact | Stage) -> tuple[str, str]:
    """(stage, key) of an artifact or a stage."""
    return (item.name if isinstance(item, Stage) else item.stage), item.key


def ancestry(item: Artifact | Stage) -> frozenset[tuple[str, str]]:
    """(stage, key) of `item` and of all its ancestors.

    An artifact's ancestry is read from its manifest, so it outlives the ancestors.
    """
    if isinstance(item, Artifact):
        return frozenset((stage, key) for stage, key in item.manifest["ancestry"])
    return frozenset({identity(item)}.union(*map(ancestry, item.parents.values())))


def lineage(item: Artifact | Stage) -> dict[str, str]:
    """{stage: key} of `item` and all its ancestors, for results.json.

    Keys of ancestors with the same stage name (embeddings of two embedders) are joined by "+".
    """
    keys: dict[str, list[str]] = {}
    for stage, key in sorted(ancestry(item)):
        keys.setdefault(stage, []).append(key)
    return {stage: "+".join(found) for stage, found in keys.items()}


def _plain(value: object) -> JSON:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) isn't JSON")

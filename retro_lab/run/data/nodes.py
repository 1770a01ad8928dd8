"""Nodes of the data graph: a stage of the store with functions that build and open it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from retro_lab.config.errors import UserError
from retro_lab.config.schema import CorpusConfig
from retro_lab.retrieval.embed.embedders import Embeddings
from retro_lab.store import Artifact, ArtifactStore, Stage
from retro_lab.store.stage import identity
from retro_lab.store.store import Builder
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus

T = TypeVar("T")


@dataclass(eq=False)
class Node(Generic[T]):
    """One stage of the store, identified, built and opened at most once.

    Attributes:
        store: holds the stage.
        make_stage: returns the stage with its key; may read raw input to compute the key.
        build: writes the stage if the store lacks it.
        read: opens the stage's folder.
        needs: nodes that `build` reads, built first.
    """

    store: ArtifactStore
    make_stage: Callable[[], Artifact | Stage]
    build: Builder
    read: Callable[[Path], T]
    needs: tuple[Node[Any], ...] = field(default=(), repr=False)

    @cached_property
    def stage(self) -> Artifact | Stage:
        """The stage that identifies the data, or the stored result if a run recorded its key."""
        return self.make_stage()

    @cached_property
    def artifact(self) -> Artifact:
        """The stored result, built and verified."""
        found = self.store.get(self.stage)
        if found is not None:
            return found
        for node in self.needs:
            _ = node.artifact
        return self.store.build(self.stage, self.build)

    @cached_property
    def data(self) -> T:
        """The opened content of the stored result."""
        return self.read(self.artifact.path)


def in_building_order(nodes: Iterable[Node[Any]]) -> list[Node[Any]]:
    """The nodes and all that they need, each stage once and after the stages that it needs."""
    found: dict[tuple[str, str], Node[Any]] = {}

    def add(node: Node[Any]) -> None:
        if identity(node.stage) not in found:
            for needed in node.needs:
                add(needed)
            found[identity(node.stage)] = node

    for node in nodes:
        add(node)
    return list(found.values())


@dataclass(frozen=True)
class TextNodes:
    """The nodes of one corpus: text, chunks and chunk embeddings.

    Attributes:
        name: of the corpus; empty for the run's own.
    """

    name: str
    corpus: Node[Corpus]
    chunks: Node[ChunkStore]
    embeddings: Node[Embeddings]


def naming_errors(
    name: str, config: CorpusConfig, key: str | None
) -> Callable[[], AbstractContextManager[None]]:
    """A context that adds a database corpus's name and configuration keys to its `UserError`s.

    Args:
        key: configuration key of its settings; None for a path given by `database.add`.
    """

    def with_key(text: str) -> str:
        """An error's text with `corpus.` keys replaced by the keys of this corpus."""
        names = "|".join(field.name for field in fields(config))
        setting = re.compile(rf"\bcorpus\.(?=(?:{names})\b)")  # not a file of that name
        if key is not None:
            return setting.sub(f"{key}.", text)
        named = re.sub(r"\bcorpus\.path\b", "database.add", text)
        if not setting.search(named):
            return named
        chosen = f"corpus@database.corpora.{name}"
        return (
            setting.sub(f"database.corpora.{name}.", named)
            + f" (with database=corpora +{chosen}=<its kind> in place of database.add)"
        )

    @contextmanager
    def named() -> Iterator[None]:
        try:
            yield
        except UserError as error:
            message, fix = with_key(error.message), error.fix and with_key(error.fix)
            raise UserError(f"database, {name}: {message}", fix=fix) from error

    return named

"""The text that neighbours are searched in: the run's own chunks, or a database of several corpora.

With `database=train` there is no `database` stage: the run's own chunks are the database. Each
corpus is cut and embedded separately, so a corpus that two databases share is built once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from retro_lab.config.schema import CorpusDatabaseConfig, DatabaseConfig
from retro_lab.retrieval.base import TextOf
from retro_lab.retrieval.embed.database import DatabaseEmbeddings
from retro_lab.retrieval.embed.embedders import Embeddings
from retro_lab.store import Artifact, Stage, Workspace
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus
from retro_lab.text.database import (
    DatabaseCorpus,
    DatabaseStore,
    Source,
    build_database,
    database_stage,
    planted_documents,
)

from .nodes import Node, TextNodes

if TYPE_CHECKING:
    from .graph import DataGraph


class SearchedText:
    """The searched text, with one space of chunk ids over all its corpora.

    Args:
        graph: of the run.
        config: the database.
        with_training: also search the training split, even if `config` leaves it out.
    """

    def __init__(
        self, graph: DataGraph, config: DatabaseConfig, *, with_training: bool = False
    ) -> None:
        self.graph, self.config, self.with_training = graph, config, with_training
        self.is_own = config.is_training_split
        self.key = f"{config!r} {with_training}"

    @cached_property
    def others(self) -> list[TextNodes]:
        """The corpora besides the run's own."""
        single = isinstance(self.config, CorpusDatabaseConfig)
        found = [
            self.graph.other(
                name, corpus, "database.corpus" if single else f"database.corpora.{name}"
            )
            for name, corpus in self.config.other_corpora().items()
        ]
        added = self.config.added_corpora().items()
        return found + [self.graph.other(name, corpus, None) for name, corpus in added]

    @cached_property
    def node(self) -> Node[ChunkStore]:
        """The chunks that chunk ids refer to: the run's own, or the `database` stage."""
        own, others = self.graph.own, self.others
        if self.is_own:
            return own.chunks

        def make_stage() -> Stage:
            chunks = {other.name: other.chunks.stage for other in others}
            return database_stage(
                self.config, own.chunks.stage, chunks, with_training=self.with_training
            )

        def build(workspace: Workspace) -> Mapping[str, Any]:
            sources = [Source(text.name, text.chunks.data, text.corpus.data) for text in self._all]
            return build_database(
                self.config,
                sources[0],
                sources[1:],
                workspace,
                with_training=self.with_training,
                added=len(self.config.add),
            )

        needs = tuple(text.chunks for text in self._all)
        return Node(self.graph.store, make_stage, build, DatabaseStore, needs)

    @property
    def _all(self) -> list[TextNodes]:
        return [self.graph.own, *self.others]

    def nodes(self, vectors: bool) -> list[Node[Any]]:
        """The nodes that a search reads: the chunks, and with `vectors` their embeddings."""
        return [self.node, *(text.embeddings for text in self._all if vectors)]

    @property
    def vector_stages(self) -> Artifact | Stage | dict[str, Artifact | Stage]:
        """The stage of the embeddings; a dict by role if there are several corpora."""
        own = self.graph.own.embeddings.stage
        if self.is_own:
            return own
        others = {f"embeddings {other.name}": other.embeddings.stage for other in self.others}
        return {"embeddings": own, **others}

    @property
    def base(self) -> SearchedText | None:
        """The same text without the corpus added last; its chunk ids are a prefix of these."""
        if not self.config.add:
            return None
        config = replace(self.config, add=self.config.add[:-1])
        return SearchedText(self.graph, config, with_training=self.with_training)

    def planted(self) -> dict[str, Any] | None:
        """The record of planted documents, by `planted_documents`; None if there are none."""
        return None if self.is_own else planted_documents(self.node.artifact.path)

    @property
    def chunks(self) -> ChunkStore:
        """All chunks, by chunk id."""
        return self.node.data

    @cached_property
    def corpus(self) -> Corpus:
        """The run's corpus, extended by the text of the database."""
        if not isinstance(self.chunks, DatabaseStore):
            return self.graph.own.corpus.data
        return DatabaseCorpus(self.chunks, [text.corpus.data for text in self._all])

    @property
    def text_of(self) -> TextOf:
        """Returns the raw text of chunks; can be sent to other processes."""
        return partial(self.chunks.texts, corpus=self.corpus)

    @cached_property
    def embeddings(self) -> Embeddings:
        """All chunk embeddings, by chunk id."""
        if not isinstance(self.chunks, DatabaseStore):
            return self.graph.own.embeddings.data
        return DatabaseEmbeddings(self.chunks, [text.embeddings.data for text in self._all])

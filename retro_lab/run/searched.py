"""What neighbours are searched in: the run's own chunks, or a database of several corpora.

    corpus -> chunks -+
    other  -> chunks -+-> database -> index -> neighbours

With `database=train` there is no such stage: the run's own chunks are the database, and all keys
are as if nothing else could be searched. Each corpus is cut and embedded by itself, so what two
databases share is built once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import CorpusConfig, CorpusDatabaseConfig, DatabaseConfig
from retro_lab.retrieval.embed.embedders import Embeddings, build_embeddings, embeddings_stage
from retro_lab.store import Artifact, Stage
from retro_lab.text.chunks import ChunkStore, build_chunks, chunks_stage
from retro_lab.text.corpus import Corpus, build_corpus, corpus_stage
from retro_lab.text.database import (
    DatabaseCorpus,
    DatabaseStore,
    Source,
    build_database,
    database_stage,
    planted_documents,
)

if TYPE_CHECKING:
    from .stages import Pipeline


class OtherCorpus:
    """A corpus that is only searched: all its documents, cut by the run's own tokenizer.

    Args:
        key: where its settings stand; None if its path alone was given, by `database.add`.
    """

    def __init__(
        self, name: str, config: CorpusConfig, pipeline: Pipeline, key: str | None
    ) -> None:
        self.name, self.config, self.pipeline, self.key = name, config, pipeline, key

    @cached_property
    def corpus(self) -> Artifact | Stage:
        with self._named_errors():
            return self._recorded("corpus", lambda: corpus_stage(self.config, whole=True))

    @cached_property
    def chunks(self) -> Artifact | Stage:
        chunking, tokenizer = self.pipeline.config.chunking, self.pipeline.tokenizer
        return self._recorded("chunks", lambda: chunks_stage(chunking, self.corpus, tokenizer))

    @cached_property
    def embeddings(self) -> Artifact | Stage:
        embedder = self.pipeline.config.embedder
        return self._recorded(
            "embeddings", lambda: embeddings_stage(embedder, self.chunks, self.corpus)
        )

    def _recorded(self, stage: str, make: Callable[[], Stage]) -> Artifact | Stage:
        return self.pipeline.recorded.find(f"{stage} {self.name}", make)

    def open_corpus(self) -> Corpus:
        stage = self.corpus
        with self._named_errors():
            artifact = self.pipeline.store.build(
                stage, lambda w: build_corpus(self.config, w, whole=True)
            )
        return Corpus.open(artifact.path)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Says of a mistake in reading that this is not the run's own corpus."""
        try:
            yield
        except UserError as error:
            message, fix = self._with_key(error.message), error.fix and self._with_key(error.fix)
            raise UserError(f"database, {self.name}: {message}", fix=fix) from error

    def _with_key(self, text: str) -> str:
        """An error's text with the keys that a user of this corpus sets."""
        names = "|".join(field.name for field in fields(self.config))
        setting = re.compile(rf"\bcorpus\.(?=(?:{names})\b)")  # not a file of that name
        if self.key is not None:
            return setting.sub(f"{self.key}.", text)
        named = re.sub(r"\bcorpus\.path\b", "database.add", text)
        if not setting.search(named):
            return named
        chosen = f"corpus@database.corpora.{self.name}"
        return (
            setting.sub(f"database.corpora.{self.name}.", named)
            + f" (with database=corpora +{chosen}=<its kind> in place of database.add)"
        )

    def open_chunks(self) -> ChunkStore:
        size, corpus = self.pipeline.config.chunking.chunk_size, self.open_corpus()
        artifact = self.pipeline.store.build(
            self.chunks,
            lambda w: build_chunks(size, corpus, self.pipeline.open_tokenizer(), w),
        )
        return ChunkStore.open(artifact.path)

    def open_embeddings(self) -> Embeddings:
        chunks, corpus = self.open_chunks(), self.open_corpus()
        artifact = self.pipeline.store.build(
            self.embeddings,
            lambda w: build_embeddings(self.pipeline.config.embedder, chunks, corpus, w),
        )
        return Embeddings.open(artifact.path)


class Searched:
    """The text that a search runs over, and the one space of ids that its results are in.

    Args:
        pipeline: of the run.
        config: what is searched.
        with_training: the training split too, whatever `config` says.
    """

    def __init__(
        self, pipeline: Pipeline, config: DatabaseConfig, *, with_training: bool = False
    ) -> None:
        self.pipeline, self.config, self.with_training = pipeline, config, with_training
        single = isinstance(config, CorpusDatabaseConfig)
        self.others = [
            OtherCorpus(
                name, corpus, pipeline, "database.corpus" if single else f"database.corpora.{name}"
            )
            for name, corpus in config.other_corpora().items()
        ]
        added = config.added_corpora().items()
        self.others += [OtherCorpus(name, corpus, pipeline, None) for name, corpus in added]
        self.is_own = config.is_training_split

    @cached_property
    def chunks(self) -> Artifact | Stage:
        """The stage of the store that ids refer to."""
        own = self.pipeline.chunks
        if self.is_own:
            return own
        others = {other.name: other.chunks for other in self.others}
        return database_stage(self.config, own, others, with_training=self.with_training)

    @cached_property
    def embeddings(self) -> Artifact | Stage | dict[str, Artifact | Stage]:
        """The stages of its vectors, by role where there are several."""
        own = self.pipeline.embeddings
        if self.is_own:
            return own
        others = {f"embeddings {other.name}": other.embeddings for other in self.others}
        return {"embeddings": own, **others}

    @property
    def base(self) -> Searched | None:
        """The same without what was added last: its ids are the first ones of this."""
        if not self.config.add:
            return None
        config = replace(self.config, add=self.config.add[:-1])
        return Searched(self.pipeline, config, with_training=self.with_training)

    def stages(self, *, vectors: bool) -> list[Artifact | Stage]:
        """Those beyond the run's own chunks, in building order."""
        found = [stage for other in self.others for stage in (other.corpus, other.chunks)]
        found.append(self.chunks)
        if vectors:
            found.append(self.pipeline.embeddings)
            found += [other.embeddings for other in self.others]
        return found

    def build(self) -> Artifact | None:
        """The `database` stage; None where the run's own chunks are the database."""
        if self.is_own:
            return None
        own = Source("", self.pipeline.open_chunks(), self.pipeline.open_corpus())
        others = [Source(o.name, o.open_chunks(), o.open_corpus()) for o in self.others]
        return self.pipeline.store.build(
            self.chunks,
            lambda w: build_database(
                self.config,
                own,
                others,
                w,
                with_training=self.with_training,
                added=len(self.config.add),
            ),
        )

    def planted(self) -> dict[str, Any] | None:
        """What was planted, as `planted_documents` has it; None if nothing."""
        artifact = self.build()
        return None if artifact is None else planted_documents(artifact.path)

    def open_chunks(self) -> ChunkStore:
        artifact = self.build()
        return self.pipeline.open_chunks() if artifact is None else DatabaseStore(artifact.path)

    def open_corpus(self) -> Corpus:
        """The run's corpus, with the text of the whole database."""
        own, chunks = self.pipeline.open_corpus(), self.open_chunks()
        if not isinstance(chunks, DatabaseStore):
            return own
        return DatabaseCorpus(chunks, [own, *(other.open_corpus() for other in self.others)])

    def open_embeddings(self) -> Embeddings:
        own, chunks = self.pipeline.open_embeddings(), self.open_chunks()
        if not isinstance(chunks, DatabaseStore):
            return own
        return DatabaseEmbeddings(chunks, [own, *(o.open_embeddings() for o in self.others)])


class DatabaseEmbeddings(Embeddings):
    """Vectors of a database's chunks, read from where each corpus keeps its own."""

    def __init__(self, store: DatabaseStore, sources: list[Embeddings]) -> None:
        super().__init__(sources[0].vectors, sources[0].row)
        self.store, self.sources = store, sources

    def __reduce__(self) -> tuple:
        return type(self), (self.store, self.sources)

    def of(self, ids: np.ndarray) -> NDArray[np.float16]:
        return self._gather(ids, Embeddings.of)

    def queries_of(self, ids: np.ndarray) -> NDArray[np.float16]:
        return self._gather(ids, Embeddings.queries_of)

    def _gather(
        self, ids: np.ndarray, of: Callable[[Embeddings, np.ndarray], np.ndarray]
    ) -> NDArray[np.float16]:
        ids = np.asarray(ids)
        part, place = self.store.part[ids], self.store.place[ids]
        found = np.empty((*ids.shape, self.dim), np.float16)
        for number, described in enumerate(self.store.parts):
            here = part == number
            if here.any():
                found[here] = of(self.sources[described["source"]], place[here])
        return found

"""The data side of a run as one list of stages, each built once and shared by every run.

    corpus -> tokenizer -> chunks -> embeddings -> index -> neighbours -> overlap

A database other than the training split is one more stage, behind the chunks (`searched.py`).

Nothing about the model enters a key, so no change of model, optimiser or trainer builds data anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.file_paths import located
from retro_lab.config.fingerprints import database_key
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    Config,
    HttpRetrieverConfig,
    NorlundCorpusConfig,
    OracleRetrieverConfig,
    RandomRetrieverConfig,
    Reference,
    RetrieverConfig,
)
from retro_lab.evaluation.measure.exact_overlap_stage import (
    build_exact_overlap,
    exact_overlap_stage,
)
from retro_lab.evaluation.measure.overlap_stage import build_overlap, overlap_stage
from retro_lab.retrieval.base import TextOf
from retro_lab.retrieval.embed.embedders import Embeddings, build_embeddings, embeddings_stage
from retro_lab.retrieval.filters.leak_filter import LeakFilter, leak_filter
from retro_lab.retrieval.filters.near_duplicates import NearDuplicates, near_duplicates
from retro_lab.retrieval.index_stage import (
    build_index,
    check_index,
    extends,
    index_stage,
)
from retro_lab.retrieval.table import NeighbourTable, build_neighbours, neighbours_stage
from retro_lab.store import Artifact, ArtifactStore, Stage, Workspace, build_engine
from retro_lab.text.chunks import ChunkStore, build_chunks, chunks_stage, mended_shares
from retro_lab.text.corpus import Corpus, build_corpus, corpus_stage
from retro_lab.text.imported_chunks import brings_chunks, build_imported_chunks
from retro_lab.text.tokenizers import (
    Tokenizer,
    build_tokenizer,
    load_tokenizer,
    tokenizer_stage,
)

from .directory import RunDirectory
from .recorded import Recorded, recorded_keys
from .searched import Searched


class Filters(NamedTuple):
    """What a chunk may not read although it is of another document; None is off."""

    leak: LeakFilter | None = None
    similar: NearDuplicates | None = None


NO_FILTERS = Filters()
_OF_OWN_TEXT = ("corpus", "tokenizer", "chunks", "embeddings")
"""Stages that are the same whatever is searched."""


class Pipeline:
    """Stages of one configuration in order, and the means to build them.

    Args:
        config: the run; only its data groups matter.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = ArtifactStore(Path(config.store.dir), build_engine(config.prepare))
        self.recorded = Recorded(Path(), self.store, {})

    @classmethod
    def of_run(cls, config: Config, run: RunDirectory) -> Pipeline:
        """The data of a trained run, found by the keys of its lineage wherever the raw text is.

        Args:
            config: of the run, perhaps with another store or database; what such a database adds
                to the run's own text is read anew.
        """
        trained = run.config()
        pipeline = cls(config)
        keys = recorded_keys(pipeline.store, run.lineage)
        if database_key(config.database) == database_key(trained.database):
            pipeline.config = located(config, run.started_in)
        else:
            own = located(config, run.started_in)
            pipeline.config = replace(own, database=config.database)
            keys = {role: keys[role] for role in keys.keys() & _OF_OWN_TEXT}
        pipeline.recorded = Recorded(run.path, pipeline.store, keys)
        return pipeline

    @cached_property
    def corpus(self) -> Artifact | Stage:
        return self.recorded.find("corpus", lambda: corpus_stage(self.config.corpus))

    @cached_property
    def tokenizer(self) -> Artifact | Stage:
        config = self.config.tokenizer
        return self.recorded.find("tokenizer", lambda: tokenizer_stage(config, self.corpus))

    @cached_property
    def chunks(self) -> Artifact | Stage:
        chunking, imported = self.config.chunking, brings_chunks(self.config.corpus)
        return self.recorded.find(
            "chunks",
            lambda: chunks_stage(chunking, self.corpus, self.tokenizer, imported=imported),
        )

    @cached_property
    def embeddings(self) -> Artifact | Stage:
        config = self.config.embedder
        return self.recorded.find(
            "embeddings", lambda: embeddings_stage(config, self.chunks, self.corpus)
        )

    @cached_property
    def searched(self) -> Searched:
        """What the run's neighbours are taken from."""
        return Searched(self, self.config.database)

    @cached_property
    def leakable(self) -> Searched:
        """All text that could have leaked: what is searched, and the training split."""
        if self.config.database.has_training_split:
            return self.searched
        return Searched(self, self.config.database, with_training=True)

    def index(self, retriever: RetrieverConfig, searched: Searched | None = None) -> Stage:
        searched = searched or self.searched
        vectors = searched.embeddings if retriever.needs_embeddings else None
        base = searched.base if extends(retriever) else None
        below = None if base is None else self.index(retriever, base)
        return index_stage(retriever, searched.chunks, vectors, below)

    def neighbours(
        self,
        retriever: RetrieverConfig,
        filters: Filters = NO_FILTERS,
        searched: Searched | None = None,
    ) -> Stage:
        searched = searched or self.searched
        vectors = searched.embeddings if retriever.needs_embeddings else None
        k_store = self.config.neighbours.k_store
        index = self.index(retriever, searched)
        return neighbours_stage(retriever, k_store, searched.chunks, index, vectors, *filters)

    def overlap(self) -> Stage:
        """Longest runs that chunks of the evaluated split share with the reference text."""
        evaluation, leakable = self.config.eval, self.leakable
        if evaluation.reference is Reference.exact_corpus:
            return exact_overlap_stage(leakable.chunks, split=evaluation.split)
        return overlap_stage(
            self.neighbours(overlap_retriever(self.config), searched=leakable),
            leakable.chunks,
            split=evaluation.split,
            count=evaluation.overlap_neighbours,
            continuation_chunks=1,
        )

    def stages(self) -> list[Stage]:
        """Every stage that a run of this configuration needs, in building order."""
        found: list[Artifact | Stage] = [self.corpus, self.tokenizer, self.chunks]
        for retriever, filters, searched in self._searches():
            found += self._index_stages(retriever, searched)
            found.append(self.neighbours(retriever, filters, searched))
        if self.config.retriever.retrieves and self._measures_overlap():
            found += [*self.leakable.stages(vectors=False), self.overlap()]
        return list({stage.key: stage for stage in found if isinstance(stage, Stage)}.values())

    def _index_stages(
        self, retriever: RetrieverConfig, searched: Searched
    ) -> list[Artifact | Stage]:
        """The index and all that it is made of."""
        base = searched.base if extends(retriever) else None
        found = [] if base is None else self._index_stages(retriever, base)
        found += searched.stages(vectors=retriever.needs_embeddings)
        return [*found, self.index(retriever, searched)]

    def build_all(self) -> None:
        """Builds every stage of `stages()` that is not there."""
        self.open_chunks()
        for retriever, filters, searched in self._searches():
            self.build_table(retriever, filters, searched)
        if self.config.retriever.retrieves and self._measures_overlap():
            self.open_overlap()

    def _searches(self) -> list[tuple[RetrieverConfig, Filters, Searched]]:
        """Every search of the run: its own, those of the probes, and the one for overlap."""
        config = self.config
        if not config.retriever.retrieves:
            return []
        found: list[tuple[RetrieverConfig, Filters, Searched]] = [
            (config.retriever, self.filters, self.searched)
        ]
        if config.eval.max_run is not None:
            found.append((config.retriever, self.stricter_filters, self.searched))
        if config.eval.random:
            found.append((random_retriever(config), NO_FILTERS, self.searched))
        if config.eval.oracle:
            found.append((oracle_retriever(), NO_FILTERS, self.searched))
        if self._measures_overlap() and config.eval.reference is Reference.own_neighbours:
            found.append((overlap_retriever(config), NO_FILTERS, self.leakable))
        return found

    def _measures_overlap(self) -> bool:
        """Whether there is an overlap stage; the neighbours read are compared without one."""
        seen = self.config.eval.reference is Reference.seen_neighbours
        return self.config.eval.leakage and not seen

    @property
    def filters(self) -> Filters:
        """What the run may not read; r(C) and the random control are measured without it, so
        that filtered and unfiltered runs are compared on the same chunks.
        """
        config = self.config
        leak = leak_filter(config.neighbours, config.chunking)
        return Filters(leak, near_duplicates(config.neighbours))

    @property
    def stricter_filters(self) -> Filters:
        """What RETRO[filtered] may not read: `filters`, and `eval.max_run` where it drops more."""
        neighbours, chunking = self.config.neighbours, self.config.chunking
        max_run = self.config.scored_max_run
        leak = leak_filter(replace(neighbours, max_run=max_run), chunking)
        return self.filters._replace(leak=leak)

    def _text_of(
        self, retriever: RetrieverConfig, chunks: ChunkStore, searched: Searched
    ) -> TextOf | None:
        if not retriever.needs_texts:
            return None
        return partial(chunks.texts, corpus=searched.open_corpus())

    def open_corpus(self) -> Corpus:
        """The raw text, read now if it was not."""
        config = self.config.corpus
        return Corpus.open(self.store.build(self.corpus, lambda w: build_corpus(config, w)).path)

    def open_tokenizer(self) -> Tokenizer:
        """The tokenizer, trained now if it was not."""
        config = self.config.tokenizer
        artifact = self.store.build(
            self.tokenizer, lambda w: build_tokenizer(config, self.open_corpus(), w)
        )
        return load_tokenizer(artifact.path)

    def open_chunks(self) -> ChunkStore:
        """The chunks, cut now if they were not."""
        source, size = self.config.corpus, self.config.chunking.chunk_size

        def build(workspace: Workspace) -> Mapping[str, Any]:
            corpus, tokenizer = self.open_corpus(), self.open_tokenizer()
            if isinstance(source, NorlundCorpusConfig):
                with self.recorded.needed("chunks"):
                    return build_imported_chunks(source, size, corpus, tokenizer, workspace)
            return build_chunks(size, corpus, tokenizer, workspace)

        artifact = self.store.build(self.chunks, build)
        return ChunkStore.open(artifact.path)

    def mended_shares(self, split: str) -> dict[str, float]:
        """What `mended_shares` says of the run's own chunks, which are there."""
        chunks = self.chunks
        artifact = chunks if isinstance(chunks, Artifact) else self.store.get(chunks)
        assert artifact is not None
        return mended_shares(artifact.stats["splits"][split])

    def open_embeddings(self) -> Embeddings:
        """A vector a chunk, embedded now if they were not."""
        config, chunks, corpus = self.config.embedder, self.open_chunks(), self.open_corpus()
        artifact = self.store.build(
            self.embeddings, lambda w: build_embeddings(config, chunks, corpus, w)
        )
        return Embeddings.open(artifact.path)

    def open_table(
        self, retriever: RetrieverConfig, searched: Searched | None = None
    ) -> NeighbourTable:
        """Neighbours of every chunk by a retriever, searched now if need be."""
        return NeighbourTable.open(self.build_table(retriever, searched=searched).path)

    def build_index(self, retriever: RetrieverConfig, searched: Searched | None = None) -> Artifact:
        """The index stage of a retriever."""
        searched = searched or self.searched
        chunks = searched.open_chunks()
        check_index(retriever, self.config.embedder, chunks)
        vectors = searched.open_embeddings() if retriever.needs_embeddings else None
        base = searched.base if extends(retriever) else None
        stage = self.index(retriever, searched)
        if base is None or self.store.get(stage) is not None:
            below = None
        else:
            below = self.build_index(retriever, base).path
        return self.store.build(stage, lambda w: build_index(retriever, chunks, vectors, w, below))

    def build_own_table(self) -> Artifact:
        """The neighbours stage that the run is trained with."""
        retriever, filters = self.config.retriever, self.filters
        found = self.recorded.find("neighbours", lambda: self.neighbours(retriever, filters))
        return found if isinstance(found, Artifact) else self.build_table(retriever, filters)

    def build_table(
        self,
        retriever: RetrieverConfig,
        filters: Filters = NO_FILTERS,
        searched: Searched | None = None,
    ) -> Artifact:
        """The neighbours stage of a retriever."""
        searched = searched or self.searched
        index, chunks = self.build_index(retriever, searched), searched.open_chunks()
        vectors = searched.open_embeddings() if retriever.needs_embeddings else None
        return self.store.build(
            self.neighbours(retriever, filters, searched),
            lambda w: build_neighbours(
                retriever,
                self.config.neighbours.k_store,
                chunks,
                vectors,
                index.path,
                w,
                filters.leak,
                self._text_of(retriever, chunks, searched),
                filters.similar,
            ),
        )

    def open_overlap(self) -> NDArray[np.int32]:
        """int32 [S], longest shared run of each chunk of the evaluated split, in chunk order."""
        artifact = self.build_overlap()
        return np.load(artifact.file("longest_run.npy"), allow_pickle=False)

    def open_matching(self) -> NDArray[np.uint16]:
        """uint16 [S, M], longest run in the training text from each token of these chunks."""
        return np.load(self.build_overlap().file("matching.npy"), allow_pickle=False)

    def build_overlap(self) -> Artifact:
        """The overlap stage; it holds longest_run.npy."""
        evaluation, chunks = self.config.eval, self.leakable.open_chunks()
        if evaluation.reference is Reference.exact_corpus:
            return self.store.build(
                self.overlap(), lambda w: build_exact_overlap(chunks, w, split=evaluation.split)
            )
        table = self.open_table(overlap_retriever(self.config), self.leakable)
        return self.store.build(
            self.overlap(),
            lambda w: build_overlap(
                chunks,
                table,
                w,
                split=evaluation.split,
                count=evaluation.overlap_neighbours,
                continuation_chunks=1,
            ),
        )


def random_retriever(config: Config) -> RandomRetrieverConfig:
    """The random control, never the draw that the run itself reads.

    Where the run may read random neighbours too, by itself or from a service, the control's seed
    is negative, which `retriever.seed` never is. Elsewhere it is `eval.seed + 1`.
    """
    seed = config.eval.seed
    if isinstance(config.retriever, RandomRetrieverConfig | HttpRetrieverConfig):
        return RandomRetrieverConfig(name="random", seed=-1 - seed)
    return RandomRetrieverConfig(name="random", seed=seed + 1)


def oracle_retriever() -> OracleRetrieverConfig:
    """The upper bound: what the database holds of the very text that is to be predicted."""
    return OracleRetrieverConfig(name="oracle")


def overlap_retriever(config: Config) -> RetrieverConfig:
    """Whose neighbours are searched for leaked text: the run's own retriever (RETRO, B.1).

    Random neighbours would find nothing, so that control is filtered by BM25's.
    """
    if isinstance(config.retriever, RandomRetrieverConfig):
        return Bm25RetrieverConfig(name="bm25")
    return config.retriever

"""The data of a run as a graph of stages, each built, verified and opened at most once a process.

    corpus -> tokenizer -> chunks -+-> embeddings -> index -> neighbours -> overlap
    other corpora -------> chunks -+-> database

A database other than the training split adds one node after the chunks (`searched.py`).
The graph depends only on the data groups of the configuration, so changes to model, optimiser,
trainer or evaluation never rebuild data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from retro_lab.config.schema import (
    ChunkingConfig,
    Config,
    CorpusConfig,
    DatabaseConfig,
    EmbedderConfig,
    NeighboursConfig,
    NoneRetrieverConfig,
    NorlundCorpusConfig,
    PrepareConfig,
    RandomRetrieverConfig,
    RetrieverConfig,
    StoreConfig,
    TokenizerConfig,
)
from retro_lab.retrieval.embed.embedders import (
    Embeddings,
    build_embedder,
    build_embeddings,
    embeddings_stage,
)
from retro_lab.retrieval.filters.leak_filter import leak_filter
from retro_lab.retrieval.filters.near_duplicates import near_duplicates
from retro_lab.retrieval.new_text import NewTextSearch, RandomChunks, ReadPart, SearchedStore
from retro_lab.retrieval.search.registry import load_retriever
from retro_lab.retrieval.table import NeighbourTable, check_coverage
from retro_lab.store import Artifact, ArtifactStore, Stage, Workspace, build_engine, lineage
from retro_lab.store.store import Builder
from retro_lab.text.chunks import ChunkStore, build_chunks, chunks_stage, mended_shares
from retro_lab.text.corpus import Corpus, build_corpus, corpus_stage
from retro_lab.text.imported_chunks import brings_chunks, build_imported_chunks
from retro_lab.text.tokenizers import Tokenizer, build_tokenizer, load_tokenizer, tokenizer_stage

from .nodes import Node, TextNodes, naming_errors
from .recorded import Recorded
from .search_nodes import NO_FILTERS, Filters, index_node, neighbours_node
from .searched import SearchedText

if TYPE_CHECKING:
    from retro_lab.nn import RetroConfig

T = TypeVar("T")


@dataclass(frozen=True)
class DataGroups:
    """The configuration groups that determine the data."""

    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    chunking: ChunkingConfig
    embedder: EmbedderConfig
    retriever: RetrieverConfig
    neighbours: NeighboursConfig
    database: DatabaseConfig
    prepare: PrepareConfig
    store: StoreConfig

    @classmethod
    def of(cls, config: Config) -> DataGroups:
        """The data groups of a run's configuration."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})


class DataGraph:
    """All data of one configuration, read or built on first use.

    Args:
        config: of the run; only its data groups are used.
        recorded: stage keys of a trained run, which find its data in the store without raw text.
        whole: takes every document into the training split: a database that nothing is trained on.
    """

    def __init__(
        self, config: Config | DataGroups, recorded: Recorded | None = None, *, whole: bool = False
    ) -> None:
        self.whole = whole
        self.groups = config if isinstance(config, DataGroups) else DataGroups.of(config)
        self.store = ArtifactStore(Path(self.groups.store.dir), build_engine(self.groups.prepare))
        self.recorded = recorded or Recorded(Path(), self.store, {})
        self._nodes: dict[tuple[str, ...], Node[Any]] = {}

    def without_retrieval(self) -> DataGraph:
        """A graph of the same text without retrieval, sharing this graph's nodes."""
        groups = replace(
            self.groups,
            retriever=NoneRetrieverConfig(name="none"),
            database=DatabaseConfig(name="train"),
        )
        alone = DataGraph(groups, self.recorded)
        alone.__dict__ |= {"own": self.own, "tokenizer": self.tokenizer, "_nodes": self._nodes}
        return alone

    @property
    def retrieves(self) -> bool:
        """Whether the run retrieves neighbours."""
        return self.groups.retriever.retrieves

    # Training data.

    @property
    def chunks(self) -> ChunkStore:
        """All chunks that chunk ids refer to: the run's own first, then the database's."""
        return self.searched.chunks if self.retrieves else self.own.chunks.data

    @property
    def corpus(self) -> Corpus:
        """The raw text of `chunks`."""
        return self.searched.corpus if self.retrieves else self.own.corpus.data

    @cached_property
    def table(self) -> NeighbourTable | None:
        """Neighbours of each chunk by the run's retriever; None without retrieval.

        Raises:
            UserError: too few neighbours remain after exclusion.
        """
        if not self.retrieves:
            return None
        asked = self.groups.neighbours
        check_coverage(self.own_neighbours.artifact.stats, asked.k, asked.min_coverage)
        return self.own_neighbours.data

    @cached_property
    def lineage(self) -> dict[str, str]:
        """Key by stage of the data that the run trains on."""
        return lineage(self.own_neighbours.artifact) if self.retrieves else self.text_lineage

    def prepare(self) -> dict[str, str]:
        """Builds or finds all training data; returns the lineage.

        Raises:
            UserError: bad input, or too few neighbours after exclusion.
        """
        _ = self.table, self.corpus, self.chunks
        return self.lineage

    @cached_property
    def text_lineage(self) -> dict[str, str]:
        """Key by stage of the run's own chunks, without the database."""
        return lineage(self.own.chunks.stage)

    def search(self, retriever: RetrieverConfig, model: RetroConfig, k: int) -> NewTextSearch:
        """A search over these chunks for queries of new text.

        Args:
            retriever: a random one draws by a hash of the query.
            model: configuration of the model that reads the neighbours.
            k: neighbours for each query.
        """
        text = SearchedStore(self.chunks, self.corpus.ids, self.tokenizer.data)
        read = ReadPart.by(model, k)
        if isinstance(retriever, RandomRetrieverConfig):
            return RandomChunks(text, self.chunks.searched, read, retriever)
        index = load_retriever(retriever, self.index(retriever).data)
        embedder = build_embedder(self.groups.embedder) if retriever.needs_embeddings else None
        texts = self.searched.text_of if retriever.needs_texts else None
        return NewTextSearch(text, read, index, embedder, texts)

    def mended_shares(self, split: str) -> dict[str, float]:
        """Shares of a split's text that the tokenizer or the dataset lost, by `mended_shares`."""
        return mended_shares(self.own.chunks.artifact.stats["splits"][split])

    # Nodes.

    @cached_property
    def own(self) -> TextNodes:
        """The run's own corpus, chunks and embeddings."""
        return self._cut("", self.groups.corpus, self._own_corpus)

    @cached_property
    def _own_corpus(self) -> Node[Corpus]:
        return self._read("", self.groups.corpus, nullcontext, whole=self.whole)

    @cached_property
    def tokenizer(self) -> Node[Tokenizer]:
        """The tokenizer: trained on the run's own training split, or imported."""
        config, corpus = self.groups.tokenizer, self._own_corpus
        return self._node(
            "tokenizer",
            lambda: tokenizer_stage(config, corpus.stage),
            lambda workspace: build_tokenizer(config, corpus.data, workspace),
            load_tokenizer,
            (corpus,),
        )

    def other(self, name: str, config: CorpusConfig, key: str | None) -> TextNodes:
        """A database corpus: all its documents, cut into chunks by the run's own tokenizer.

        Args:
            key: configuration key of its settings; None for a path given by `database.add`.
        """
        errors = naming_errors(name, config, key)
        return self._cut(name, config, self._read(name, config, errors, whole=True))

    @cached_property
    def searched(self) -> SearchedText:
        """The text that the run's neighbours are searched in."""
        return SearchedText(self, self.groups.database)

    @cached_property
    def leakable(self) -> SearchedText:
        """All text that could have leaked: the database and the training split."""
        if self.groups.database.has_training_split:
            return self.searched
        return SearchedText(self, self.groups.database, with_training=True)

    def index(self, retriever: RetrieverConfig, searched: SearchedText | None = None) -> Node[Path]:
        """The folder of a retriever's index of the searched text."""
        searched = searched or self.searched
        return self.cached_node(
            ("index", repr(retriever), searched.key), index_node, self, retriever, searched
        )

    def neighbours(
        self,
        retriever: RetrieverConfig,
        filters: Filters = NO_FILTERS,
        searched: SearchedText | None = None,
    ) -> Node[NeighbourTable]:
        """The neighbours of every chunk by a retriever."""
        searched = searched or self.searched
        name = ("neighbours", repr(retriever), repr(filters), searched.key)
        return self.cached_node(name, neighbours_node, self, retriever, filters, searched)

    @cached_property
    def own_neighbours(self) -> Node[NeighbourTable]:
        """The neighbours that the run is trained with."""
        made = self.neighbours(self.groups.retriever, self.filters)
        if "neighbours" not in self.recorded.keys:
            return made
        return replace(
            made, make_stage=lambda: self.recorded.find("neighbours", lambda: made.stage)
        )

    @property
    def filters(self) -> Filters:
        """The filters on the neighbours that the run reads.

        r(C) and the random control use no filters, so that filtered and unfiltered runs are
        compared on the same chunks.
        """
        groups = self.groups
        leak = leak_filter(groups.neighbours, groups.chunking)
        return Filters(leak, near_duplicates(groups.neighbours))

    def stricter_filters(self, max_run: int | None) -> Filters:
        """`filters`, which also drop neighbours sharing a run longer than `max_run` tokens."""
        neighbours = replace(self.groups.neighbours, max_run=max_run)
        return self.filters._replace(leak=leak_filter(neighbours, self.groups.chunking))

    def cached_node(
        self, name: tuple[str, ...], make: Callable[..., Node[T]], *asked: Any
    ) -> Node[T]:
        """The node of this name, made from `make(*asked)` on first use."""
        if name not in self._nodes:
            self._nodes[name] = make(*asked)
        return self._nodes[name]

    # How nodes are made.

    def _node(
        self,
        role: str,
        stage: Callable[[], Stage],
        build: Builder,
        read: Callable[[Path], T],
        needs: tuple[Node[Any], ...] = (),
    ) -> Node[T]:
        """A node that may be found by the run's recorded key for `role`."""
        return Node(self.store, lambda: self.recorded.find(role, stage), build, read, needs)

    def _read(
        self,
        name: str,
        config: CorpusConfig,
        errors: Callable[[], AbstractContextManager[None]],
        *,
        whole: bool,
    ) -> Node[Corpus]:
        def make_stage() -> Artifact | Stage:
            with errors():
                return self.recorded.find(f"corpus {name}".rstrip(), stage)

        def stage() -> Stage:
            return corpus_stage(config, whole=whole)

        def build(workspace: Workspace) -> Mapping[str, Any]:
            with errors():
                return build_corpus(config, workspace, whole=whole)

        return Node(self.store, make_stage, build, Corpus.open)

    def _cut(self, name: str, config: CorpusConfig, corpus: Node[Corpus]) -> TextNodes:
        tokenizer, chunking, embedder = (self.tokenizer, self.groups.chunking, self.groups.embedder)
        imported = not name and brings_chunks(config)

        def build(workspace: Workspace) -> Mapping[str, Any]:
            given = chunking.chunk_size, corpus.data, tokenizer.data, workspace
            if imported:
                assert isinstance(config, NorlundCorpusConfig)
                with self.recorded.needed("chunks"):
                    return build_imported_chunks(config, *given)
            return build_chunks(*given)

        chunks = self._node(
            f"chunks {name}".rstrip(),
            lambda: chunks_stage(chunking, corpus.stage, tokenizer.stage, imported=imported),
            build,
            ChunkStore.open,
            (corpus, tokenizer),
        )
        embeddings = self._node(
            f"embeddings {name}".rstrip(),
            lambda: embeddings_stage(embedder, chunks.stage, corpus.stage),
            lambda workspace: build_embeddings(embedder, chunks.data, corpus.data, workspace),
            Embeddings.open,
            (chunks,),
        )
        return TextNodes(name, corpus, chunks, embeddings)

"""The data of a run: built or found by the stages, and opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retro_lab.config.schema import Config
from retro_lab.retrieval.table import NeighbourTable, check_coverage
from retro_lab.store import lineage
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus

from .stages import Pipeline


@dataclass(frozen=True)
class Prepared:
    """The data of a run, opened.

    Attributes:
        pipeline: builds what an evaluation needs beyond it.
        corpus: raw text, that of the database included.
        chunks: token chunks, those of the database included, which the neighbours' ids refer to.
        table: neighbours by the run's retriever; None without retrieval.
        lineage: key by stage.
        found: what the table's artifact counted, as `build_neighbours` returns it.
    """

    pipeline: Pipeline
    corpus: Corpus
    chunks: ChunkStore
    table: NeighbourTable | None
    lineage: dict[str, str]
    found: Mapping[str, Any] = field(default_factory=dict)

    def without_neighbours(self) -> Prepared:
        """The same text and chunks for the baseline."""
        pipeline = self.pipeline
        corpus, chunks = pipeline.open_corpus(), pipeline.open_chunks()
        return Prepared(pipeline, corpus, chunks, None, lineage(pipeline.chunks))


def prepare(config: Config, pipeline: Pipeline | None = None) -> Prepared:
    """Builds or finds all data that training reads.

    Args:
        pipeline: of the configuration, where it is open already or that of a trained run.

    Raises:
        UserError: bad input, or too few neighbours after exclusion.
    """
    pipeline = pipeline or Pipeline(config)
    if not config.retriever.retrieves:
        corpus, chunks = pipeline.open_corpus(), pipeline.open_chunks()
        return Prepared(pipeline, corpus, chunks, None, lineage(pipeline.chunks))
    artifact = pipeline.build_own_table()
    check_coverage(artifact.stats, config.neighbours.k, config.neighbours.min_coverage)
    table, searched = NeighbourTable.open(artifact.path), pipeline.searched
    corpus, chunks = searched.open_corpus(), searched.open_chunks()
    return Prepared(pipeline, corpus, chunks, table, lineage(artifact), artifact.stats)


def prepare_search(pipeline: Pipeline) -> Prepared:
    """What a search with new text reads: all text and chunks, but no table of neighbours."""
    corpus, chunks = pipeline.searched.open_corpus(), pipeline.searched.open_chunks()
    return Prepared(pipeline, corpus, chunks, None, lineage(pipeline.chunks))

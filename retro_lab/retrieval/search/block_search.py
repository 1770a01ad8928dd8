"""Searches a block of chunks for the stage `neighbours`, in any process."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from retro_lab.config.schema import RetrieverConfig
from retro_lab.text.chunks import ChunkStore

from ..base import Retriever, TextOf, chunk_queries
from ..embed.embedders import Embeddings
from ..filters.exclusion import search_filled
from ..filters.leak_filter import LeakFilter
from ..filters.near_duplicates import NearDuplicates
from ..table_facts import Counted
from .registry import load_retriever


@dataclass(frozen=True)
class BlockSearch:
    """Finds the neighbours of a block of chunks; each process opens the index itself.

    Attributes:
        index: folder of the index artifact.
        embeddings: None for retrievers without embeddings.
        leak, similar, text_of: as in `build_neighbours`.
    """

    config: RetrieverConfig
    index: Path
    k_store: int
    chunks: ChunkStore
    embeddings: Embeddings | None
    leak: LeakFilter | None
    similar: NearDuplicates | None
    text_of: TextOf

    def __reduce__(self) -> tuple[type[BlockSearch], tuple]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def retriever(self) -> Retriever:
        """The opened index."""
        return load_retriever(self.config, self.index)

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray | float]:
        """Rows of the table, the seconds taken, and the filters' counts."""
        retriever, chunks, ids = self.retriever, self.chunks, np.arange(start, stop)
        begun = time.perf_counter()
        passes = None if self.leak is None else Counted(self.leak.of(chunks))
        repeats = None if self.similar is None else self.similar.of(chunks)
        queries = chunk_queries(chunks, self.embeddings, ids, self.text_of)
        found = search_filled(retriever, queries, self.k_store, chunks.identity, passes, repeats)
        return {
            "ids": found.ids.astype(np.int32),
            "scores": found.scores,
            "seconds": time.perf_counter() - begun,
            **({} if passes is None else passes.counts),
            **({} if repeats is None else repeats.counts),
        }

"""The stage `neighbours`: the stored neighbours of every chunk.

Queries are the chunks of all splits of the run's own corpus. The table keeps `k_store` neighbours a
chunk, so that a smaller k is a slice of it; it includes the evaluation chunks' own neighbours,
which leakage is measured against.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import RetrieverConfig, left_out
from retro_lab.store.store import Artifact, Stage
from retro_lab.store.workspace import Workspace
from retro_lab.text.chunks import ChunkStore

from .base import (
    NO_CHUNK,
    Neighbours,
    TextOf,
    chunk_queries,
    no_texts,
)
from .embed.embedders import Embeddings
from .filters.exclusion import other_documents, search_filled
from .filters.leak_filter import LeakFilter
from .filters.near_duplicates import NearDuplicates
from .index_stage import Vectors, given_embeddings, searched_parents
from .search.block_search import BlockSearch
from .search.exact_search import with_exact_search
from .search.ranking import first_allowed
from .search.registry import kind_of
from .table_facts import (
    dropped_shares,
    filled_shares,
    in_words,
    refused_share,
)

LOG = logging.getLogger("retro_lab")
NEIGHBOURS_VERSION = 1

_BLOCK = 4096  # queries a block
_RECALL_AT = 10
_RECALL_QUERIES = 256


def neighbours_stage(
    config: RetrieverConfig,
    k_store: int,
    chunks: Artifact | Stage,
    index: Artifact | Stage,
    embeddings: Vectors,
    leak: LeakFilter | None = None,
    similar: NearDuplicates | None = None,
) -> Stage:
    """The stage of the neighbour table: `k_store` neighbours for each chunk of each split.

    Null settings and disabled filters don't enter the key.
    """
    outside = {*left_out(config), "index"}  # the index's stage is a parent
    settings = {name: value for name, value in asdict(config).items() if name not in outside}
    fields = {"kind": kind_of(config), **_search_fields(settings), "k_store": k_store}
    if leak is not None:
        fields["leak_filter"] = asdict(leak)
    if similar is not None:
        fields["near_duplicates"] = asdict(similar)
    parents = {**searched_parents(config, chunks, embeddings), "index": index}
    return Stage("neighbours", NEIGHBOURS_VERSION, fields, parents)


def build_neighbours(
    config: RetrieverConfig,
    k_store: int,
    chunks: ChunkStore,
    embeddings: Embeddings | None,
    index: Path,
    workspace: Workspace,
    leak: LeakFilter | None = None,
    text_of: TextOf = no_texts,
    similar: NearDuplicates | None = None,
) -> Mapping[str, Any]:
    """Searches neighbours for every chunk, in blocks that resume; own documents are excluded.

    Args:
        index: folder of the index artifact.
        leak: drops neighbours that repeat the text to be predicted; the next candidate moves up.
        text_of: returns raw text of the chunks, for retrievers with `needs_texts`.
        similar: drops neighbours that repeat the query or a better one; the next one moves up.

    Returns:
        filled: for each split the share of chunks with a first, second, ... neighbour;
        coverage: its mean over `k_store`;
        refused: share of tested candidates that the leak filter dropped;
        queries_per_second: of one process;
        recall_at_10: for an approximate search, against exact search on a fixed sample of chunks;
        near_duplicates: with `similar`, shares of tested candidates dropped as like the query or a
            better one.

    Raises:
        UserError: `k_store` exceeds the database.
    """
    size = len(chunks.searched)
    if k_store > size:
        raise UserError(
            f"neighbours.k_store={k_store} exceeds the database: it has {size} chunks with text",
            fix=f"set neighbours.k_store={size} or less, or search a larger corpus",
        )
    vectors = embeddings if config.needs_embeddings else None
    search = BlockSearch(config, index, k_store, chunks, vectors, leak, similar, text_of)
    counts = workspace.blocks(
        chunks.own_chunks, _BLOCK, search, what="retrieving", unit="chunks", anywhere=True
    )
    table = NeighbourTable.open(workspace.path)
    filled = filled_shares(table.ids, chunks)
    counted = {} if similar is None else {"near_duplicates": dropped_shares(counts)}
    seconds = counts.get("seconds")
    stats = {
        **counted,
        "queries": chunks.own_chunks,
        "queries_per_second": round(chunks.own_chunks / seconds, 1) if seconds else None,
        "filled": filled,
        "coverage": {split: float(np.mean(shares)) for split, shares in filled.items()},
        "refused": None if leak is None else refused_share(counts),
        "recall_at_10": _recall(search, table),
    }
    LOG.info("neighbours by %s: %s", kind_of(config), in_words(stats))
    return stats


def check_coverage(stats: Mapping[str, Any], k: int, min_coverage: float) -> None:
    """Raises UserError if a split fills less than `min_coverage` of its first k slots.

    Args:
        stats: counts of the `neighbours` artifact.
        k: neighbours that a chunk reads.
        min_coverage: share from 0 to 1.
    """
    for split, shares in stats["filled"].items():
        coverage = float(np.mean(shares[:k]))
        if coverage < min_coverage:
            raise UserError(
                f"only {coverage:.1%} of the {split} split's neighbour slots are filled at k={k}, "
                f"less than neighbours.min_coverage={min_coverage}: too few chunks of other "
                "documents are found",
                fix="lower neighbours.k or neighbours.min_coverage, use a corpus of more "
                "documents, raise neighbours.max_run if it is set, or for an approximate index "
                "raise retriever.nprobe",
            )


class NeighbourTable:
    """Memory-mapped view of the `neighbours` artifact.

    Attributes:
        ids: int32 [C, k_store], global chunk ids, best first, -1 for none; a row for each chunk of
            the run's own corpus.
        scores: float32 [C, k_store], -inf for none.
    """

    def __init__(self, ids: np.ndarray, scores: np.ndarray) -> None:
        self.ids = ids
        self.scores = scores

    @classmethod
    def open(cls, path: Path) -> NeighbourTable:
        """The table in an artifact's folder."""
        ids, scores = (
            np.load(path / name, mmap_mode="r", allow_pickle=False)
            for name in ("ids.npy", "scores.npy")
        )
        return cls(ids, scores)

    @property
    def k_store(self) -> int:
        """Stored neighbours of each chunk."""
        return self.ids.shape[1]

    def select(
        self,
        chunk_ids: np.ndarray,
        k: int,
        banned_documents: np.ndarray,
        chunk_document: np.ndarray,
    ) -> np.ndarray:
        """The first k stored neighbours outside the row's banned documents.

        In sequences that pack several documents, no chunk may read a neighbour from any of them.

        Args:
            chunk_ids: int [Q].
            k: at most `k_store`, else ValueError.
            banned_documents: int [Q, W], padded with -1.
            chunk_document: int [C], the document of every chunk in the store (its `identity`).

        Returns:
            int64 [Q, k], -1 after the last stored neighbour.
        """
        if k > self.k_store:
            raise ValueError(f"k={k}, but the table keeps {self.k_store} neighbours a chunk")
        stored = Neighbours(self.ids[chunk_ids].astype(np.int64), self.scores[chunk_ids])
        allowed = other_documents(stored.ids, banned_documents, chunk_document)
        return first_allowed(stored, allowed, k).ids


def _recall(search: BlockSearch, table: NeighbourTable) -> float | None:
    """Share of the exact first 10 neighbours among the table's first 10.

    None for an exact search, and for one without vectors, which has no exact search to match.
    """
    chunks = search.chunks
    given = given_embeddings(search.retriever, search.embeddings)
    if search.retriever.exact or given is None:
        return None
    exact = with_exact_search(search.retriever, chunks.searched, given)
    passes = None if search.leak is None else search.leak.of(chunks)
    repeats = None if search.similar is None else search.similar.of(chunks)
    count = min(_RECALL_QUERIES, chunks.own_chunks)
    sample = np.linspace(0, chunks.own_chunks - 1, count).astype(np.int64)
    k = min(_RECALL_AT, table.k_store)
    queries = chunk_queries(chunks, given, sample, search.text_of)
    truth = search_filled(exact, queries, k, chunks.identity, passes, repeats).ids
    found = table.ids[sample, :k]
    hit = (truth[:, :, None] == found[:, None, :]).any(axis=2) & (truth != NO_CHUNK)
    return float(hit.sum() / max(1, (truth != NO_CHUNK).sum()))


def _search_fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A retriever's settings and those of its parts, without options' names and nulls."""
    return {
        key: _search_fields(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if key != "name" and value is not None
    }

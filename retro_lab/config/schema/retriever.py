"""Group `retriever`: what finds neighbours. `none` is the baseline, the one spelling of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class RetrieverConfig:
    """Base of all retrievers; the registry's key is the class.

    Attributes:
        name: the option's name.
        needs_embeddings: whether the embedder takes part, and so enters the run's key.
    """

    needs_embeddings: ClassVar[bool] = False

    name: str = "none"


@dataclass
class NoneRetrieverConfig(RetrieverConfig):
    """No retrieval: the model has neither CCA nor encoder."""


@dataclass
class FaissRetrieverConfig(RetrieverConfig):
    """Dense search with a FAISS index.

    Attributes:
        factory: FAISS factory string; `{nlist}` and `{pq}` are filled from the corpus and the
            embedding's width by the rules in `retro_lab/retrieval/faiss_index.py`.
        nprobe: inverted lists visited by a query; null takes a documented share of nlist.
        ef_search: HNSW's candidate list; ignored by other indexes.
    """

    needs_embeddings: ClassVar[bool] = True

    name: str = "faiss_flat"
    factory: str = "Flat"
    nprobe: int | None = None
    ef_search: int = 64


@dataclass
class Bm25RetrieverConfig(RetrieverConfig):
    """Lexical search on token ids.

    Attributes:
        k1: saturation of term frequency.
        b: strength of length normalisation.
    """

    name: str = "bm25"
    k1: float = 0.9
    b: float = 0.4


@dataclass
class RandomRetrieverConfig(RetrieverConfig):
    """Uniformly random neighbours from other documents: the control condition."""

    name: str = "random"
    seed: int = 0

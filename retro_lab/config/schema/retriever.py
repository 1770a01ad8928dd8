"""Group `retriever`: what finds neighbours. `none` is the baseline, the one spelling of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass
class RetrieverConfig:
    """Base of all retrievers; the registry's key is the class.

    Attributes:
        name: the option's name.
        needs_embeddings: whether the embedder takes part, and so enters the run's key.
        needs_texts: whether the search reads raw text, of queries and of candidates.
        outside: settings that never change what is found; they enter neither a stage's key nor the
            run's.
        added: settings that came after keys had been made, as an embedder's.
    """

    needs_embeddings: ClassVar[bool] = False
    needs_texts: ClassVar[bool] = False
    outside: ClassVar[tuple[str, ...]] = ()
    added: ClassVar[Mapping[str, object]] = {}

    name: str = "none"


@dataclass
class NoneRetrieverConfig(RetrieverConfig):
    """No retrieval: the model has neither CCA nor encoder."""


@dataclass
class FaissRetrieverConfig(RetrieverConfig):
    """Dense search with a FAISS index.

    Attributes:
        factory: FAISS factory string; `{nlist}`, `{pq}` and `{opq}` are filled from the corpus and
            the embedding's width by the rules in `retro_lab/retrieval/search/faiss_factory.py`.
        nlist: inverted lists, in place of the rule for `{nlist}`.
        pq: sub-quantisers a vector, in place of the rule for `{pq}` and `{opq}`; with 8 bits each,
            the bytes of a code.
        nprobe: inverted lists visited by a query; null takes a documented share of nlist.
        ef_search: HNSW's candidate list; ignored by other indexes.
        rerank: first candidates of an approximate index that are scored again exactly, from a
            copy of the stored embeddings in the index; null keeps the index's own order.
    """

    needs_embeddings: ClassVar[bool] = True

    name: str = "faiss_flat"
    factory: str = "Flat"
    nlist: int | None = None
    pq: int | None = None
    nprobe: int | None = None
    ef_search: int = 64
    rerank: int | None = None


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
class TfidfRetrieverConfig(RetrieverConfig):
    """Cosine of tf-idf vectors of token ids."""

    name: str = "tfidf"


@dataclass
class RandomRetrieverConfig(RetrieverConfig):
    """Uniformly random neighbours from other documents: the control condition."""

    name: str = "random"
    seed: int = 0


@dataclass
class HybridRetrieverConfig(RetrieverConfig):
    """Reciprocal-rank fusion of a dense and a lexical search.

    Attributes:
        dense: the dense search.
        lexical: the lexical search.
        constant: added to each rank before its reciprocal is taken; the source's 60.
        depth: candidates of each search that are fused.
    """

    needs_embeddings: ClassVar[bool] = True

    name: str = "hybrid"
    dense: FaissRetrieverConfig = field(default_factory=FaissRetrieverConfig)
    lexical: Bm25RetrieverConfig = field(default_factory=Bm25RetrieverConfig)
    constant: int = 60
    depth: int = 200


@dataclass
class DenseBm25RetrieverConfig(RetrieverConfig):
    """Dense candidates in the order of their BM25 scores.

    Attributes:
        dense: the search that gives the candidates.
        bm25: scores them, with token statistics of the whole database.
        pool: candidates that are put in order.
    """

    needs_embeddings: ClassVar[bool] = True

    name: str = "dense_bm25_rerank"
    dense: FaissRetrieverConfig = field(default_factory=FaissRetrieverConfig)
    bm25: Bm25RetrieverConfig = field(default_factory=Bm25RetrieverConfig)
    pool: int = 100


@dataclass
class DenseNeuralRetrieverConfig(RetrieverConfig):
    """Dense candidates in the order of a pretrained model's scores.

    Attributes:
        dense: the search that gives the candidates.
        scorer: what the model is. A cross_encoder reads query and candidate together, one forward
            pass a pair; late_interaction compares their tokens' vectors, one a text.
        model: hub name, local folder, or `package:<distribution>`, as an embedder's.
        pool: candidates that are put in order.
        batch_size: pairs or texts a forward pass.
    """

    needs_embeddings: ClassVar[bool] = True
    needs_texts: ClassVar[bool] = True
    added: ClassVar[Mapping[str, object]] = {"scorer": "cross_encoder"}

    name: str = "dense_neural_rerank"
    dense: FaissRetrieverConfig = field(default_factory=FaissRetrieverConfig)
    scorer: str = "cross_encoder"
    model: str = "cross-encoder/ms-marco-MiniLM-L6-v2"
    pool: int = 32
    batch_size: int = 64


@dataclass
class OracleRetrieverConfig(RetrieverConfig):
    """NOT A RETRIEVER THAT ANYONE COULD USE: it reads the text that the model is to predict.

    Attributes:
        bm25: gives the candidates, searched with the next chunk.
        pool: candidates whose longest run is measured.
    """

    name: str = "oracle"
    bm25: Bm25RetrieverConfig = field(default_factory=Bm25RetrieverConfig)
    pool: int = 128


@dataclass
class StoredRetrieverConfig(RetrieverConfig):
    """The neighbours that the corpus brings with it: nothing is searched."""

    name: str = "stored"


@dataclass
class HttpRetrieverConfig(RetrieverConfig):
    """The index of `python -m retro_lab serve`, perhaps on another machine.

    Its API key is read from the environment variable RETRO_LAB_API_KEY, never from here. Neighbours
    follow the index that is served, wherever that is: a service that moved changes nothing.

    Attributes:
        index: key of the index that must be served, as /health tells it. A service of another is
            refused, runs of two indexes are two runs, and what is in the store is found without
            asking the service. null takes what is served; a run goes on with that index only.
        url: where the service listens.
        timeout: seconds until an answer must have come.
        batch_size: queries a request; the service's own limit goes before it.
        retries: further attempts when the service is busy or out of reach, each after twice the
            wait of the one before.
    """

    outside: ClassVar[tuple[str, ...]] = ("url", "timeout", "batch_size", "retries")

    name: str = "http"
    index: str | None = None
    url: str = "http://127.0.0.1:8765"
    timeout: float = 60.0
    batch_size: int = 256
    retries: int = 4

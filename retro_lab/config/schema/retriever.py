"""Group `retriever`: the search for neighbours; `retriever=none` is the baseline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

from ..errors import UserError, masked, problem, refuse_passwords
from .own_part import OwnPart
from .setting import setting

# Settings that only fill the factory string, and their placeholders.
_FILLS = {"nlist": ["{nlist}"], "pq": ["{pq}", "{opq}"]}
_PLACEHOLDERS = {place for places in _FILLS.values() for place in places}
# Factories that FAISS accepts but then crashes or hangs on, or answers wrongly.
_MOST_LINKS = 512
_BAD_PARTS = (
    (r"(?<![a-z])(IVF|OPQ|PQ|PCA|RR|Pad)0(?!\d)|x0(?!\d)", "nothing can be divided into 0 parts"),
    (r"HNSW.*PQ", "FAISS's graph over product codes finds nothing by inner product"),
    (r"LSH|IMI|ZnLattice|Residual", "FAISS has no inner product for it"),
    (r"IDMap", "chunks have numbers already"),
)
MOST_CANDIDATES = 2**20


@dataclass
class RetrieverConfig:
    """Base of all retrievers; the registry looks retrievers up by this class.

    Attributes:
        name: the option's name.
        retrieves: whether the run has neighbours at all.
        needs_embeddings: whether the retriever uses the embedder, whose settings then enter the
            key.
        needs_texts: whether the search reads raw text of queries and candidates.
    """

    retrieves: ClassVar[bool] = True
    needs_embeddings: ClassVar[bool] = False
    needs_texts: ClassVar[bool] = False

    name: str = "none"

    def parts(self) -> dict[str, RetrieverConfig]:
        """The retrievers that this retriever combines, by setting name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in found.items() if isinstance(part, RetrieverConfig)}

    @property
    def dense_part(self) -> FaissRetrieverConfig | None:
        """The FAISS search of this retriever, or of its candidates; None without one."""
        return getattr(self, "dense", None)


@dataclass
class NoneRetrieverConfig(RetrieverConfig):
    """No retrieval: the model has neither CCA nor encoder."""

    retrieves: ClassVar[bool] = False


@dataclass
class FaissRetrieverConfig(RetrieverConfig):
    """Dense search with a FAISS index.

    Attributes:
        factory: FAISS factory string; `retro_lab/retrieval/search/faiss_factory.py` fills
            `{nlist}`, `{pq}` and `{opq}` from the size of the database and the embedding's width.
        nlist: inverted lists, overriding the rule for `{nlist}`.
        pq: sub-quantisers a vector, overriding the rule for `{pq}` and `{opq}`; at 8 bits each, the
            bytes of a code.
        nprobe: inverted lists visited by a query; null takes a documented share of nlist.
        ef_search: HNSW's candidate list; ignored by other indexes.
        rerank: first candidates of an approximate index to score again exactly, from a copy of the
            embeddings stored in the index; null keeps the index's own order.
    """

    needs_embeddings: ClassVar[bool] = True

    name: str = "faiss_flat"
    factory: str = "Flat"
    nlist: int | None = setting(None, at_least=1)
    pq: int | None = setting(None, at_least=1)
    nprobe: int | None = setting(None, at_least=1)
    ef_search: int = setting(64, at_least=1, at_most=MOST_CANDIDATES)
    rerank: int | None = setting(None, at_least=1, at_most=2**12)

    @property
    def dense_part(self) -> FaissRetrieverConfig | None:
        return self

    def problems(self, prefix: str) -> Iterator[UserError]:
        key, factory = f"{prefix}factory", self.factory
        unknown = [place for place in re.findall(r"{.*?}", factory) if place not in _PLACEHOLDERS]
        if not factory or unknown:
            yield problem(
                key,
                factory,
                f"there is no placeholder {unknown[0]}" if unknown else "must be a factory string",
                f"\"{key}='IVF{{nlist}},Flat'\"; there are {', '.join(sorted(_PLACEHOLDERS))}",
            )
        broken = [reason for part, reason in _BAD_PARTS if re.search(part, factory)]
        links = re.search(r"(?:HNSW|NSG)(\d+)", factory)
        if links and not 2 <= int(links[1]) <= _MOST_LINKS:
            broken.append(f"a graph has from 2 to {_MOST_LINKS} links a chunk")
        for reason in broken:  # quotes doubled: the shell removes one pair
            yield problem(key, factory, reason, f"\"{key}='IVF{{nlist}},PQ{{pq}}'\"")
        for name, places in _FILLS.items():
            value = getattr(self, name)
            if value is not None and not any(place in factory for place in places):
                yield problem(
                    f"{prefix}{name}",
                    value,
                    f"fills {' and '.join(places)} in {key}, but that is {factory}",
                    f"{prefix}{name}=null",
                )
        if self.rerank is not None and factory == "Flat":
            yield problem(
                f"{prefix}rerank",
                self.rerank,
                f"{key}=Flat is exact already: nothing is left to score again",
                f"{prefix}rerank=null",
            )


@dataclass
class Bm25RetrieverConfig(RetrieverConfig):
    """Lexical search on token ids.

    Attributes:
        k1: saturation of term frequency.
        b: strength of length normalisation.
    """

    name: str = "bm25"
    k1: float = setting(0.9, at_least=0)
    b: float = setting(0.4, at_least=0, at_most=1)


@dataclass
class TfidfRetrieverConfig(RetrieverConfig):
    """Cosine of tf-idf vectors of token ids."""

    name: str = "tfidf"


@dataclass
class LdaRetrieverConfig(RetrieverConfig):
    """Nearest mixtures of topics (latent Dirichlet allocation) of token ids.

    Attributes:
        topics: number of topics.
        passes: passes over the database while the topics are fitted.
        batch_size: chunks between two updates of the topics.
        seed: seed of the first topics and mixtures.
    """

    name: str = "lda"
    topics: int = setting(64, at_least=2, at_most=2**12)
    passes: int = setting(3, at_least=1, at_most=2**10)
    batch_size: int = setting(256, at_least=1, at_most=2**20)
    seed: int = setting(0, at_least=0, at_most=2**32 - 1)


@dataclass
class RandomRetrieverConfig(RetrieverConfig):
    """Uniformly random neighbours from other documents: the control condition.

    Attributes:
        seed: seed of the draw.
    """

    name: str = "random"
    seed: int = setting(0, at_least=0)


@dataclass
class StoredRetrieverConfig(RetrieverConfig):
    """The neighbours that come with the corpus; no search."""

    name: str = "stored"


@dataclass
class HttpRetrieverConfig(RetrieverConfig):
    """The index of `python -m retro_lab serve`, possibly on another machine.

    The API key is read from the environment variable RETRO_LAB_API_KEY. Results depend on the
    served index, not on its address.

    Attributes:
        index: key of the index to use, as /health returns; it enters the run key, and a service
            with another index is refused. Stored data is found without contacting the service. null
            takes the served index, and a run continues with that index only.
        url: address of the service.
        timeout: seconds to wait for an answer.
        batch_size: queries a request, at most the service's own limit.
        retries: further attempts if the service is busy or unreachable; the wait doubles each time.
    """

    name: str = "http"
    index: str | None = None
    url: str = setting("http://127.0.0.1:8765", identity=False)
    timeout: float = setting(60.0, identity=False)
    batch_size: int = setting(256, at_least=1, at_most=2**20, identity=False)
    retries: int = setting(4, identity=False)

    def problems(self, prefix: str) -> Iterator[UserError]:
        try:
            refuse_passwords([f"{prefix}url={self.url}"])
        except UserError as error:
            yield error
        if not self.url.startswith(("http://", "https://")):
            yield problem(
                f"{prefix}url",
                masked(self.url),
                "must begin with http:// or https://",
                f"{prefix}url=http://127.0.0.1:8765",
            )
        if not self.timeout > 0:
            rule = "must be above 0 seconds"
            yield problem(f"{prefix}timeout", self.timeout, rule, f"{prefix}timeout=60")
        if self.retries < 0:
            rule = "must not be negative"
            yield problem(f"{prefix}retries", self.retries, rule, f"{prefix}retries=4")


@dataclass
class OwnRetrieverConfig(OwnPart, RetrieverConfig):
    """A retriever of the user's own (docs/own_parts.md).

    Attributes:
        needs_embeddings, needs_texts: as the class states them; not to be set.
    """

    kind: ClassVar[str] = "retriever"
    facts: ClassVar[tuple[str, ...]] = ("needs_embeddings", "needs_texts")

    name: str = "custom"
    needs_embeddings: bool = False
    needs_texts: bool = False

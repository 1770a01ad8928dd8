"""Contract: settings of retrieval that FAISS would refuse later, or that could do nothing, are
refused before anything is read, with a fix that works; nested searches are looked at too.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from retro_lab.config.errors import ConfigError
from retro_lab.config.rules import check
from retro_lab.config.schema import Config

# retriever, setting that breaks one rule, start of its message, what mends it
BROKEN = [
    ("faiss_factory", "retriever.factory=IVF{n},Flat", "there is no placeholder {n}", None),
    ("faiss_factory", "retriever.factory='IVF0,Flat'", "divided into 0 parts", None),
    ("faiss_factory", "retriever.factory='IVF16,PQ4x0'", "divided into 0 parts", None),
    ("faiss_factory", "retriever.factory=HNSW1", "a graph has from 2 to 512 links", None),
    ("faiss_factory", "retriever.factory=HNSW999999", "a graph has from 2 to 512 links", None),
    ("faiss_factory", "retriever.factory='HNSW32,PQ8'", "finds nothing by inner product", None),
    ("faiss_factory", "retriever.factory='ITQ,LSH'", "no inner product", None),
    ("faiss_factory", "retriever.factory='IDMap,Flat'", "have numbers already", None),
    ("faiss_factory", "retriever.factory=''", "must be a factory string", None),
    ("faiss_flat", "retriever.nlist=9", "fills {nlist} in retriever.factory, but that is Flat", ""),
    ("faiss_ivf", "retriever.pq=9", "fills {pq} and {opq} in retriever.factory", ""),
    ("faiss_flat", "retriever.rerank=9", "retriever.factory=Flat is exact already", ""),
    ("faiss_ivf", "retriever.rerank=0", "must be at least 1", ""),
    ("faiss_ivf", "retriever.nlist=0", "must be at least 1", ""),
    ("faiss_hnsw", "retriever.ef_search=0", "must be at least 1", None),
    ("hybrid", "retriever.dense.rerank=9", "retriever.dense.factory=Flat is exact", ""),
    ("hybrid", "retriever.dense.factory=IVF{n}", "there is no placeholder {n}", None),
    ("hybrid", "retriever.lexical.b=2", "must be from 0 to 1", None),
    ("hybrid", "retriever.depth=0", "must be at least 1", None),
    ("dense_bm25_rerank", "retriever.pool=0", "must be at least 1", None),
    ("dense_bm25_rerank", "retriever.bm25.k1=-1", "must be finite and not negative", None),
    ("oracle", "retriever.pool=0", "must be at least 1", None),
    ("faiss_flat", "embedder.pooling=max", "must be null or mean or cls", ""),
    ("faiss_flat", "embedder.precision=fp8", "must be fp32 or bf16 or fp16", None),
    ("faiss_flat", "embedder.max_length=0", "must be at least 1, or null", ""),
    ("dense_neural_rerank", "retriever.scorer=colbert", "must be cross_encoder or late", None),
    ("http", "retriever.url=localhost:8765", "must begin with http:// or https://", None),
    ("http", "retriever.timeout=0.0", "must be above 0 seconds", None),
    ("http", "retriever.retries=-1", "must not be negative", None),
    ("http", "retriever.batch_size=0", "must be at least 1", None),
    ("bm25", "neighbours.max_run=0", "must be at least 1", ""),
    ("bm25", "neighbours.max_run=129", "texts of 128 tokens are compared", ""),
    ("bm25", "eval.max_run=0", "must be at least 1", ""),
    ("bm25", "eval.max_run=129", "texts of 128 tokens are compared", ""),
]


@pytest.mark.parametrize(("retriever", "override", "says", "mend"), BROKEN)
def test_broken_rule_is_named_with_a_way_out(
    config_of: Callable[..., Config],
    retriever: str,
    override: str,
    says: str,
    mend: str | None,
) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        check(config_of(f"retriever={retriever}", override))
    (problem,) = caught.value.problems
    assert problem.message.startswith(f"{key}=")
    assert says in problem.message
    assert key in str(problem.fix)
    if mend is not None:
        check(config_of(f"retriever={retriever}", f"{key}=null"))


def test_what_the_placeholders_allow_passes(config_of: Callable[..., Config]) -> None:
    check(config_of("retriever=faiss_opq_ivfpq", "retriever.nlist=9", "retriever.pq=8"))
    check(config_of("retriever=faiss_ivfpq", "retriever.rerank=100"))
    check(config_of("retriever=bm25", "neighbours.max_run=128"))
    check(config_of("retriever=none", "neighbours.max_run=9999", "eval.max_run=9999"))


def test_only_the_first_chunk_of_a_neighbour_is_compared_without_continuation(
    config_of: Callable[..., Config],
) -> None:
    with pytest.raises(ConfigError, match="texts of 64 tokens"):
        check(config_of("chunking.continuation_chunks=0", "neighbours.max_run=65"))


@pytest.mark.parametrize("side", ["query_model", "key_model"])
def test_a_dual_encoder_needs_both_models(config_of: Callable[..., Config], side: str) -> None:
    overrides = ["embedder=dpr", f"embedder.{side}=''"]
    with pytest.raises(ConfigError, match=rf"^embedder\.{side} has no value and needs one"):
        check(config_of("retriever=faiss_flat", *overrides))
    check(config_of("retriever=bm25", *overrides))


def test_late_interaction_needs_another_model_than_a_cross_encoder(
    config_of: Callable[..., Config],
) -> None:
    chosen = ["retriever=dense_neural_rerank", "retriever.scorer=late_interaction"]
    with pytest.raises(ConfigError, match=r"retriever\.model=cross-encoder/.*reads two texts"):
        check(config_of(*chosen))
    check(config_of(*chosen, "retriever.model=owner/colbert"))


def test_a_cross_encoder_needs_a_model(config_of: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"^retriever\.model has no value and needs one"):
        check(config_of("retriever=dense_neural_rerank", "retriever.model=''"))

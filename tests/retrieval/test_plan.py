"""Contract: the planner's bytes are those of the files that the stages write, exactly where the
arithmetic is exact; FAISS indexes of any known factory within 2 %; counts and workers are sound.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    FaissRetrieverConfig,
    HttpRetrieverConfig,
    HybridRetrieverConfig,
    LdaRetrieverConfig,
    NoneRetrieverConfig,
    RetrieverConfig,
    TfidfRetrieverConfig,
)
from retro_lab.planner.faiss_sizes import Lists, index_bytes, inverted_lists
from retro_lab.planner.plan import (
    MOST_CHUNKS,
    Database,
    building_memory,
    planned_chunks,
    planned_files,
    workers_for,
)
from retro_lab.retrieval.search.faiss_blocks import LIMITS
from retro_lab.retrieval.search.faiss_factory import create_index, fill_factory, train_index

SIZE, WIDTH = 1500, 32

FACTORIES = (
    "Flat",
    "SQ8",
    "SQfp16",
    "HNSW32",
    "HNSW16,SQ8",
    "PQ8x6",
    "IVF{nlist},Flat",
    "IVF{nlist},PQ{pq}",
    "IVF16,SQ8",
    "IVF16_HNSW8,Flat",
    "OPQ{opq},IVF{nlist},PQ{pq}",
    "PCA16,Flat",
    "IVF16,PQ4x4,RFlat",
)


def database(chunks: int = 1000, **other: float) -> Database:
    values = {"documents": 10, "text_bytes": 200_000, "chunk_size": 64, "vocab_size": 4096}
    return Database(chunks, chunks, **(values | {"distinct": 0.5} | other))  # type: ignore[arg-type]


def sizes(planned: Database, retriever: FaissRetrieverConfig | Bm25RetrieverConfig) -> dict:
    files = planned_files(planned, retriever, WIDTH, 16)
    return {f"{file.stage}/{file.name}": file.bytes for file in files}


@pytest.mark.parametrize("factory", FACTORIES)
def test_faiss_index_has_the_planned_bytes(factory: str) -> None:
    import faiss

    vectors = np.random.default_rng(0).standard_normal((SIZE, WIDTH)).astype(np.float32)
    index = create_index(fill_factory(factory, SIZE, WIDTH), WIDTH)
    train_index(index, vectors)
    index.add(vectors)
    planned = index_bytes(FaissRetrieverConfig(factory=factory), SIZE, WIDTH)
    assert planned == pytest.approx(len(faiss.serialize_index(index)), rel=0.02)


def test_sizes_that_the_user_sets_go_before_the_rules() -> None:
    config = FaissRetrieverConfig(factory="IVF{nlist},PQ{pq}", nlist=1000, pq=16)
    size = 10**6
    codes, centroids, codebook = size * (16 + 8), 1000 * (4 * WIDTH + 8), 256 * WIDTH * 4
    assert index_bytes(config, size, WIDTH) == codes + centroids + codebook


def test_a_billion_vectors_are_planned_without_their_lists() -> None:
    config = FaissRetrieverConfig(factory="IVF{nlist},PQ{pq}", nlist=2**30)
    assert index_bytes(config, 2 * 10**9, 64) > 2**30 * 64 * 4


def test_the_papers_chunks() -> None:
    assert planned_chunks(1.75e12, 64) == 27_343_750_000  # RETRO: 28 billion keys


@given(tokens=st.integers(1, 500), documents=st.integers(1, 10), size=st.integers(1, 64))
def test_documents_are_padded(tokens: int, documents: int, size: int) -> None:
    """The estimate stays between no padding at all and a last chunk of one token."""
    planned = planned_chunks(tokens * documents, size, document_tokens=tokens)
    fewest = documents * (tokens + 1) / size
    assert fewest - 1e-6 <= planned <= documents * (-(-(tokens + 1) // size) + 1) + 1


def test_large_vocabularies_take_four_bytes_a_token() -> None:
    small = sizes(database(vocab_size=65_535), Bm25RetrieverConfig())
    large = sizes(database(vocab_size=65_536), Bm25RetrieverConfig())
    name = "chunks/tokens.npy"
    assert (small[name], large[name]) == (128 + 1000 * 64 * 2, 128 + 1000 * 64 * 4)


def test_postings_beyond_32_bits_take_larger_numbers() -> None:
    below, above = (
        sizes(database(chunks), Bm25RetrieverConfig())["index/indices.npy"] / (chunks * 32)
        for chunks in (MOST_CHUNKS // 32, MOST_CHUNKS // 32 + 1)
    )
    assert (round(below), round(above)) == (4, 8)


def test_a_baseline_has_only_chunks() -> None:
    stages = {f.stage for f in planned_files(database(), NoneRetrieverConfig(), 0, 16)}
    assert stages == {"corpus", "chunks"}


def test_lexical_searches_embed_nothing() -> None:
    files = planned_files(database(), TfidfRetrieverConfig(), 0, 16)
    assert "embeddings" not in {file.stage for file in files}
    assert "idf.npy" in {file.name for file in files}


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="FAISS can't index"):
        index_bytes(FaissRetrieverConfig(factory="Nonsense"), 1000, WIDTH)
    with pytest.raises(UserError, match="NSG"):
        index_bytes(FaissRetrieverConfig(factory="NSG16"), 1000, WIDTH)
    with pytest.raises(UserError, match="what it stores"):
        planned_files(database(), HttpRetrieverConfig(name="http"), WIDTH, 16)


def test_workers_share_the_work() -> None:
    assert [workers_for(seconds, 10.0) for seconds in (1, 10, 10.1, 100)] == [1, 1, 2, 10]


def test_lists_that_a_query_visits() -> None:
    def lists(factory: str, **more: int) -> Lists | None:
        return inverted_lists(FaissRetrieverConfig(factory=factory, **more), 64_000, WIDTH)

    assert lists("Flat") is None
    assert lists("HNSW32") is None
    assert lists("IVF64,Flat") == Lists("IVF64,Flat", 64, 4)
    assert lists("IVF{nlist},Flat", nlist=32, nprobe=64) == Lists("IVF32,Flat", 32, 32)


def index_memory(retriever: RetrieverConfig, chunks: int) -> int:
    planned = database(chunks)
    files = planned_files(planned, retriever, WIDTH, 16)
    return building_memory(planned, retriever, WIDTH, files)["index"]


@pytest.mark.parametrize(
    "factory", ["Flat", "SQ8", "IVF256,Flat", "IVF256,PQ8", "OPQ8,IVF256,PQ8", "IVF256_HNSW8,Flat"]
)
def test_an_index_on_disk_takes_memory_for_a_sample_and_the_numbers(factory: str) -> None:
    config = FaissRetrieverConfig(factory=factory)
    small, large = (index_memory(config, chunks) for chunks in (10**6, 10**8))
    assert large - small == (10**8 - 10**6) * 16
    sample = 0 if factory == "Flat" else LIMITS.sample * WIDTH * 6
    assert small == 10**6 * 16 + sample


def test_more_lists_take_a_larger_sample() -> None:
    few, many = (
        index_memory(FaissRetrieverConfig(factory=f"IVF{2**n},Flat"), 10**8) for n in (10, 16)
    )
    assert many - few == (64 * 2**16 - LIMITS.sample) * WIDTH * 6


@pytest.mark.parametrize(
    ("retriever", "bytes_each"),
    [
        (FaissRetrieverConfig(factory="HNSW32"), 4 * WIDTH),
        (Bm25RetrieverConfig(), 4 * 64 + 8 * 32),
        (HybridRetrieverConfig(), 4 * 64 + 8 * 32),
        (LdaRetrieverConfig(topics=16), 4 * 64 + 4 * 16),
    ],
)
def test_other_indexes_take_memory_for_all_of_it(
    retriever: RetrieverConfig, bytes_each: int
) -> None:
    small, large = (index_memory(retriever, chunks) for chunks in (10**6, 2 * 10**6))
    assert large - small >= bytes_each * 10**6

"""Contract: with a two-sided embedder what is searched has its vector as a key, and whatever
neighbours are searched for has its vector as a query, in tables and in a service.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from in_process_service import served_index

from retro_lab.config.schema import (
    DualEncoderConfig,
    FaissRetrieverConfig,
    HashingEmbedderConfig,
    RetrieverConfig,
)
from retro_lab.retrieval.base import chunk_queries
from retro_lab.retrieval.embed import embedders
from retro_lab.retrieval.embed.embedders import Embeddings, build_embeddings, embeddings_stage
from retro_lab.retrieval.embed.hashing import HashingEmbedder
from retro_lab.retrieval.index_stage import build_index
from retro_lab.retrieval.search.faiss_index import FaissRetriever
from retro_lab.retrieval.search.faiss_search import inner_products
from retro_lab.retrieval.table import NeighbourTable, build_neighbours
from retro_lab.store.stage import Stage
from retro_lab.store.store import ArtifactStore
from retro_lab.store.workspace import Workspace
from retro_lab.testing.small_world import SmallChunks, bag_of_words, small_chunks


@dataclass
class Backwards:
    """Keys of hashed words; queries of the words of the text read backwards."""

    config: DualEncoderConfig
    reads_backwards: bool = False
    dim: int = 64

    @property
    def query(self) -> Backwards | None:
        return None if self.reads_backwards else Backwards(self.config, True)

    @classmethod
    def content_fields(cls, config: DualEncoderConfig) -> dict[str, str]:
        return {}

    def embed(self, texts: list[str]) -> np.ndarray:
        texts = [text[::-1] for text in texts] if self.reads_backwards else texts
        return HashingEmbedder(HashingEmbedderConfig(dim=64)).embed(texts)


def test_a_chunk_is_embedded_as_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks, config = small_chunks(), DualEncoderConfig()
    monkeypatch.setitem(embedders.EMBEDDERS, DualEncoderConfig, f"{__name__}:Backwards")
    stage = embeddings_stage(config, Stage("chunks", 1, {}, {}), Stage("corpus", 1, {}, {}))
    artifact = ArtifactStore(tmp_path, largest_block=300).build(
        stage, lambda w: build_embeddings(config, chunks, chunks.corpus, w)
    )
    stored, ids = Embeddings.open(artifact.path), np.arange(chunks.num_chunks)
    texts, both = chunks.texts(ids, chunks.corpus), Backwards(config)
    assert both.query is not None
    np.testing.assert_array_equal(stored.of(ids), both.embed(texts).astype(np.float16))
    backwards = both.query.embed(texts).astype(np.float16)
    np.testing.assert_array_equal(stored.queries_of(ids), backwards)
    assert len(stored.queries) == len(stored.vectors) < chunks.num_chunks


def exact(
    chunks: SmallChunks, vectors: Embeddings, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores by sorting all inner products, own documents left out."""
    ids = chunks.searched
    queries, keys = (v.astype(np.float64) for v in (vectors.queries_of(rows), vectors.of(ids)))
    scores = queries @ keys.T
    scores[chunks.document[rows][:, None] == chunks.document[ids]] = -np.inf
    order = np.lexsort((np.tile(ids, (len(rows), 1)), -scores.round(9)), axis=-1)[:, :k]
    return ids[order], np.take_along_axis(scores, order, axis=1)


def table(
    folder: Path, chunks: SmallChunks, vectors: Embeddings, config: RetrieverConfig
) -> NeighbourTable:
    build_index(config, chunks, vectors, Workspace(folder / "index"))
    space = Workspace(folder / "table")
    build_neighbours(config, 6, chunks, vectors, folder / "index", space)
    return NeighbourTable.open(folder / "table")


def test_a_table_holds_the_keys_nearest_to_each_query(tmp_path: Path) -> None:
    chunks = small_chunks()
    vectors, rows = bag_of_words(chunks, two_sided=True), np.arange(chunks.num_chunks)
    found = table(tmp_path, chunks, vectors, FaissRetrieverConfig())
    ids, scores = exact(chunks, vectors, rows, 6)
    with_text = chunks.tokens[:, 1] < 40
    assert (found.ids == ids)[with_text].all()
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    one_sided, _ = exact(chunks, bag_of_words(chunks), rows, 6)
    assert (ids != one_sided).mean() > 0.5


def test_an_approximate_search_ranks_again_by_query_and_key(tmp_path: Path) -> None:
    chunks = small_chunks()
    vectors, rows = bag_of_words(chunks, two_sided=True), np.arange(0, chunks.num_chunks, 7)
    ranked = FaissRetrieverConfig(factory="SQ4", rerank=500)
    found = table(tmp_path, chunks, vectors, ranked)
    _, scores = exact(chunks, vectors, rows, 6)
    np.testing.assert_allclose(found.scores[rows], scores, atol=1e-6)


@pytest.mark.parametrize("outside", [False, True])
def test_a_service_searches_with_query_vectors(outside: bool) -> None:
    chunks, rows = small_chunks(), np.arange(4, 900, 50)
    served = served_index(FaissRetrieverConfig(), chunks, two_sided=True)
    assert served.embeddings is not None
    queries = chunk_queries(chunks, served.embeddings, rows)
    expected = served.retriever.candidates(queries, 12)
    asked = [-1] * len(rows) if outside else rows.tolist()
    found = served.candidates(asked, queries.tokens.tolist(), None, 12)
    np.testing.assert_array_equal(found.ids, expected.ids)
    texts = chunks.texts(rows, chunks.corpus)
    for hits, ids in zip(served.search_texts(texts, 12), expected.ids, strict=True):
        assert [hit.chunk_id for hit in hits] == ids.tolist()


def test_near_ties_of_long_vectors_are_searched_to_their_end() -> None:
    """DPR's vectors are longer than 1, so that FAISS's own sums may be off by more than 1e-5."""
    rng = np.random.default_rng(0)
    numbers = rng.uniform(10, 40, 48)  # all keys have about one score
    keys = np.stack([rng.permutation(numbers) for _ in range(300)]).astype(np.float16)
    asked = 40 * (1 + rng.standard_normal((64, 48), np.float32) * np.float32(1e-6))
    labels = np.tile(np.arange(300), (64, 1))

    def rounded(index: object, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        noise = rng.uniform(-0.01, 0.01, (len(vectors), 300))
        off = inner_products(index, vectors, labels[: len(vectors)]) + noise
        order = np.ascontiguousarray(np.argsort(-off, axis=1)[:, :k])
        return np.take_along_axis(off, order, axis=1).astype(np.float32), order

    retriever = FaissRetriever(FaissRetrieverConfig(), search=rounded)
    retriever.build(np.arange(300), np.zeros((300, 1), np.int32), keys)
    scores = inner_products(retriever.index, asked, labels)
    queries = chunk_queries(small_chunks(), None, np.arange(64))._replace(embeddings=asked)
    found = retriever.candidates(queries, 5)
    assert (found.ids == np.lexsort((labels, -scores), axis=-1)[:, :5]).all()

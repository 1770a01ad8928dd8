"""Contract: the embeddings stage holds a vector for every chunk's raw text, each distinct text
embedded once; models that are missing or not the expected ones are the user's error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engines import CountingEngine

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    EmbedderConfig,
    HashingEmbedderConfig,
    SentenceTransformerConfig,
)
from retro_lab.retrieval.embed.embedders import (
    Embeddings,
    build_embedder,
    build_embeddings,
    embeddings_stage,
)
from retro_lab.retrieval.embed.hashing import HashingEmbedder
from retro_lab.retrieval.embed.pretrained import model_folder
from retro_lab.retrieval.embed.sentence_transformer import check_weights
from retro_lab.store.engine import Engine
from retro_lab.store.stage import Stage
from retro_lab.store.store import ArtifactStore
from retro_lab.testing.small_world import SmallChunks, small_chunks

CHUNKS = Stage("chunks", 1, {}, {})
CORPUS = Stage("corpus", 1, {}, {})


class Interrupted(Exception):
    pass


def build(
    root: Path, chunks: SmallChunks, config: EmbedderConfig, engine: Engine | None = None
) -> Path:
    store = ArtifactStore(root, engine, largest_block=100)
    stage = embeddings_stage(config, CHUNKS, CORPUS)
    return store.build(stage, lambda w: build_embeddings(config, chunks, chunks.corpus, w)).path


def test_every_chunk_has_the_vector_of_its_raw_text(tmp_path: Path) -> None:
    chunks, config = small_chunks(), HashingEmbedderConfig(dim=32)
    stored = Embeddings.open(build(tmp_path, chunks, config))
    texts = chunks.texts(np.arange(chunks.num_chunks), chunks.corpus)
    expected = HashingEmbedder(config).embed(texts).astype(np.float16)
    np.testing.assert_array_equal(stored.of(np.arange(chunks.num_chunks)), expected)
    assert stored.dim == 32
    assert len(stored.vectors) == len(set(texts)) < chunks.num_chunks


def test_an_interrupted_build_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    chunks, config = small_chunks(), HashingEmbedderConfig(dim=16)
    whole = build(tmp_path / "whole", chunks, config)
    first, rest = CountingEngine(3), CountingEngine()
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "halves", chunks, config, first)
    resumed = build(tmp_path / "halves", chunks, config, rest)
    assert first.items == 300
    assert first.items + rest.items == len(Embeddings.open(whole).vectors)
    for name in ("vectors.npy", "row.npy"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()


def test_hashed_vectors_are_unit_and_near_for_shared_words() -> None:
    embed = HashingEmbedder(HashingEmbedderConfig()).embed
    texts = ["the cat sat on the mat", "The cat sat on a mat!", "colourless green ideas", "", " \n"]
    vectors = embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 256)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0], atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.5 > abs(vectors[0] @ vectors[2])
    np.testing.assert_array_equal(embed(texts[1:2])[0], vectors[1])
    assert embed([]).shape == (0, 256)


def test_word_order_matters_only_to_ngrams() -> None:
    texts = ["one two three", "three two one"]
    ones, twos = (
        HashingEmbedder(HashingEmbedderConfig(ngram=n)).embed(texts).tolist() for n in (1, 2)
    )
    assert ones[0] == ones[1]
    assert twos[0] != twos[1]


def test_the_key_holds_what_changes_the_vectors() -> None:
    def key(config: EmbedderConfig) -> str:
        return embeddings_stage(config, CHUNKS, CORPUS).key

    hashing = key(HashingEmbedderConfig())
    assert key(HashingEmbedderConfig(name="other")) == hashing
    assert key(HashingEmbedderConfig(dim=64)) != hashing
    assert key(HashingEmbedderConfig(ngram=3)) != hashing
    model = SentenceTransformerConfig(sha256="0" * 64)
    assert key(SentenceTransformerConfig(sha256="0" * 64, batch_size=8)) == key(model)
    assert key(SentenceTransformerConfig(sha256="1" * 64)) != key(model)
    assert key(SentenceTransformerConfig(sha256="0" * 64, normalise=False)) != key(model)


def test_a_folders_weights_enter_the_key_by_content(tmp_path: Path) -> None:
    config = SentenceTransformerConfig(model=str(tmp_path))
    keys = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "model.safetensors").write_bytes(content)
        keys.append(embeddings_stage(config, CHUNKS, CORPUS).key)
    assert keys[0] == keys[2] != keys[1]


def test_missing_or_wrong_models_are_the_users_error(tmp_path: Path) -> None:
    cases = {
        "package:no-such-package-here": "isn't installed",
        "package:numpy": "has no model.safetensors",
        str(tmp_path): "has no model.safetensors",
        "./no/such/folder": "has no model.safetensors",
    }
    for model, says in cases.items():
        with pytest.raises(UserError, match=says) as caught:
            build_embedder(SentenceTransformerConfig(model=model))
        assert model in caught.value.message
        assert caught.value.fix


def test_weights_of_another_digest_are_refused() -> None:
    config = SentenceTransformerConfig(sha256="ab" * 32)
    with pytest.raises(UserError, match=r"embedder\.sha256.*expected abab"):
        check_weights(config, model_folder("embedder.model", config.model))


def test_a_hub_model_without_a_network_is_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*args: object, **kwargs: object) -> str:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(UserError, match=r"owner/name.*Network is unreachable"):
        build_embedder(SentenceTransformerConfig(model="owner/name"))


@pytest.mark.slow
def test_minilm_embeds_in_order_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    embedder = build_embedder(SentenceTransformerConfig())
    texts = ["A cat sleeps on the warm sofa.", "", "A kitten naps on the couch." * 3, "GDP grew."]
    vectors = embedder.embed(texts)
    assert vectors.shape == (4, embedder.dim) == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[2] > 0.5 > vectors[0] @ vectors[3]
    np.testing.assert_allclose(embedder.embed(texts[2:3])[0], vectors[2], atol=1e-5)
    assert capfd.readouterr() == ("", "")

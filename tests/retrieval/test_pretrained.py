"""Contract: an option of the group `embedder` gives every text a vector that depends on nothing but
the text and the settings in its key; pretrained encoders pool, cut and scale as a few lines of
arithmetic do.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from safetensors.torch import load_file, save_file
from tiny_models import TEXTS, changed_config, hidden, late, save_encoder, unit
from transformers import AutoTokenizer, BertModel

from retro_lab.config.errors import UserError
from retro_lab.config.keys import options
from retro_lab.config.schema import (
    DualEncoderConfig,
    EmbedderConfig,
    SentenceTransformerConfig,
)
from retro_lab.retrieval.embed.embedders import (
    Embedder,
    build_embedder,
    embed_queries,
    embeddings_stage,
)
from retro_lab.retrieval.embed.pretrained import digest_of, model_folder
from retro_lab.store.stage import Stage

CHUNKS, CORPUS = Stage("chunks", 1, {}, {}), Stage("corpus", 1, {}, {})
OPTIONS = [name for name in options("embedder") if name != "custom"]  # has no class of its own
EXACT = {"rtol": 0, "atol": 1e-5}


def embedder_of(option: str, models: Path) -> EmbedderConfig:
    """An option with the tiny models in place of its own."""
    config = config_of(f"embedder={option}").embedder
    if isinstance(config, DualEncoderConfig):
        return replace(config, query_model=str(models / "one"), key_model=str(models / "two"))
    if isinstance(config, SentenceTransformerConfig):
        model = models / ("static" if option == "static" else "one")
        return replace(config, model=str(model), sha256=None)
    return config


def one(models: Path, **settings: object) -> Embedder:
    return build_embedder(SentenceTransformerConfig(model=str(models / "one"), **settings))  # type: ignore[arg-type]


def key(config: EmbedderConfig) -> str:
    return embeddings_stage(config, CHUNKS, CORPUS).key


@pytest.mark.parametrize("option", OPTIONS)
def test_each_text_has_its_vector_alone_and_in_any_batch(option: str, models: Path) -> None:
    config = embedder_of(option, models)
    embedder = build_embedder(config)
    for side in (embedder, embedder.query or embedder):
        vectors = side.embed(TEXTS)
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(TEXTS), embedder.dim)
        assert np.isfinite(vectors).all()
        np.testing.assert_allclose(side.embed(TEXTS[::-1])[::-1], vectors, **EXACT)
        for row, text in enumerate(TEXTS):
            np.testing.assert_allclose(side.embed([text])[0], vectors[row], **EXACT)
        np.testing.assert_allclose(vectors[0], vectors[6], **EXACT)
        assert abs(vectors[0] - vectors[3]).max() > 1e-3
        assert side.embed([]).shape == (0, embedder.dim)
        lengths = np.linalg.norm(vectors, axis=1)
        if getattr(config, "normalise", True):
            assert all(length == pytest.approx(1, abs=1e-5) or length == 0 for length in lengths)
        else:
            assert lengths.max() > 1.5


@pytest.mark.parametrize("option", OPTIONS)
def test_queries_are_rounded_as_stored_vectors_are(option: str, models: Path) -> None:
    config = embedder_of(option, models)
    embedder = build_embedder(config)
    asked = embed_queries(embedder, TEXTS)
    assert asked.dtype == np.float32
    np.testing.assert_array_equal(asked.astype(np.float16), asked)
    keys = embedder.embed(TEXTS)
    assert (embedder.query is not None) == config.two_sided
    assert np.allclose(asked, keys, atol=1e-2) != config.two_sided


@pytest.mark.parametrize("option", OPTIONS)
def test_settings_that_change_vectors_enter_the_key(option: str, models: Path) -> None:
    config = embedder_of(option, models)
    changes = {"pooling": "max", "normalise": "other", "precision": "other", "max_length": 9}
    changes |= {"dim": 9, "ngram": 9}
    keys = [key(config)]
    for name, value in changes.items():
        if hasattr(config, name):
            keys.append(key(replace(config, **{name: value})))
    assert len(keys) > 2
    assert len(set(keys)) == len(keys)
    if hasattr(config, "batch_size"):
        assert key(replace(config, batch_size=3)) == keys[0]


@pytest.mark.parametrize("side", ["query_model", "key_model"])
def test_both_models_of_a_dual_encoder_are_in_the_key_by_content(
    side: str, models: Path, tmp_path: Path
) -> None:
    save_encoder(tmp_path, seed=1)
    config = replace(embedder_of("dpr", models), **{side: str(tmp_path)})
    before = key(config)
    save_encoder(tmp_path, seed=4)
    assert key(config) != before


def test_keys_made_before_there_was_a_choice_are_kept() -> None:
    assert key(SentenceTransformerConfig(sha256="0" * 64)) == "8bcebf6a008acfeb"


def test_pooling_is_over_the_last_hidden_states(models: Path) -> None:
    states = [hidden(models / "one", text) for text in TEXTS]
    means = np.stack([state.mean(axis=0) for state in states])
    firsts = np.stack([state[0] for state in states])
    for pooling, expected in (("mean", means), ("cls", firsts), (None, means)):
        plain = one(models, pooling=pooling, normalise=False).embed(TEXTS)
        np.testing.assert_allclose(plain, expected, **EXACT)
        scaled = one(models, pooling=pooling).embed(TEXTS)
        np.testing.assert_allclose(scaled, unit(expected), **EXACT)


def test_no_more_than_max_length_tokens_are_read(models: Path) -> None:
    cut = one(models, max_length=8).embed(TEXTS)
    expected = [hidden(models / "one", text, longest=8).mean(axis=0) for text in TEXTS]
    np.testing.assert_allclose(cut, unit(np.stack(expected)), **EXACT)
    assert abs(cut[2] - one(models).embed(TEXTS)[2]).max() > 1e-3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_still_of_unit_length(precision: str, models: Path) -> None:
    full, half = one(models).embed(TEXTS), one(models, precision=precision).embed(TEXTS)
    np.testing.assert_allclose(half, full, rtol=0, atol=0.05)
    assert (half != full).any()
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-5)


def test_weights_of_half_precision_are_computed_with_in_full(models: Path, tmp_path: Path) -> None:
    save_encoder(tmp_path, seed=1)
    BertModel.from_pretrained(tmp_path).half().save_pretrained(tmp_path)
    vectors = build_embedder(SentenceTransformerConfig(model=str(tmp_path))).embed(TEXTS)
    states = hidden_in_full(tmp_path)
    np.testing.assert_allclose(vectors[0], unit(states.mean(axis=0)), **EXACT)


def hidden_in_full(folder: Path) -> np.ndarray:
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS[0], return_tensors="pt")
    model = BertModel.from_pretrained(folder).float()
    with torch.inference_mode():
        return model(**tokens).last_hidden_state[0].numpy()


def test_batches_are_of_texts_with_like_many_tokens(models: Path) -> None:
    """Characters would not do: 'unknown' is one token."""
    embedder, batches = one(models, batch_size=2), []

    def watch(module: object, given: tuple[dict[str, torch.Tensor], ...]) -> None:
        special = 2  # a token at each end of a text
        lengths = given[0]["attention_mask"].sum(dim=1) - special
        batches.append(sorted(lengths.tolist(), reverse=True))

    embedder.model[0].register_forward_pre_hook(watch)  # type: ignore[attr-defined]
    embedder.embed(["w1 w2 w3", "unknown" * 9, "w1", "w1 w2 w3 w4", "w5 w6 w7 w8"])
    assert batches == [[4, 4], [3, 1], [1]]


def test_static_embeddings_are_means_in_both_formats(models: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    folder = models / "static"
    modules = [StaticEmbedding.load(str(folder)), Normalize()]
    SentenceTransformer(modules=modules).save(str(tmp_path))
    rows = load_file(folder / "model.safetensors")["embeddings"].numpy()
    expected = unit(np.stack([rows[[6, 7, 8]].mean(axis=0), rows[[1, 14]].mean(axis=0)]))
    for model in (folder, tmp_path):
        embedder = build_embedder(SentenceTransformerConfig(model=str(model)))
        np.testing.assert_allclose(embedder.embed([TEXTS[0], TEXTS[5]]), expected, **EXACT)
    half = load_file(tmp_path / "model.safetensors")["embedding.weight"].half()
    save_file({"embedding.weight": half}, tmp_path / "model.safetensors")
    embedder = build_embedder(SentenceTransformerConfig(model=str(tmp_path)))
    assert (embedder.embed([""]) == 0).all()  # in half precision, a vector of nothing has no unit


def test_what_a_model_cannot_do_is_the_users_error(models: Path, tmp_path: Path) -> None:
    static, encoder = str(models / "static"), str(models / "one")
    cases = [
        ({"model": static, "pooling": "mean"}, r"embedder\.pooling=mean: static", "null"),
        ({"model": static, "max_length": 8}, r"embedder\.max_length=8: static", "null"),
        ({"model": static, "precision": "fp16"}, r"embedder\.precision=fp16: static", "fp32"),
        ({"model": encoder, "max_length": 65}, r"max_length=65: the model reads 64", "64 or less"),
    ]
    for settings, says, fix in cases:
        with pytest.raises(UserError, match=says) as caught:
            build_embedder(SentenceTransformerConfig(**settings))
        assert fix in str(caught.value.fix)
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"embedder\.model=.* is no encoder that can be loaded"):
        build_embedder(SentenceTransformerConfig(model=str(tmp_path)))


def test_weights_that_are_missing_are_never_random(tmp_path: Path) -> None:
    folder = str(changed_config(save_encoder(tmp_path), num_hidden_layers=3))
    with pytest.raises(UserError, match=r"embedder\.query_model=.* no weights for encoder\.lay"):
        build_embedder(DualEncoderConfig(query_model=folder, key_model=folder))
    with pytest.raises(UserError, match=r"retriever\.model=.* no weights for encoder\.layer"):
        late(folder)


def test_a_missing_pooler_and_another_models_head_are_nothing_to_report(
    models: Path, tmp_path: Path
) -> None:
    save_encoder(tmp_path, seed=1)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("pooler.")}
    save_file({**kept, "cls.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")  # and all below it
    logger.addHandler(handler)
    try:
        vectors = build_embedder(SentenceTransformerConfig(model=str(tmp_path))).embed(TEXTS)
        assert said == []
        BertModel.from_pretrained(tmp_path)  # elsewhere it is said as ever
    finally:
        logger.removeHandler(handler)
    assert "cls.bias" in said[0]
    np.testing.assert_allclose(vectors, one(models).embed(TEXTS), **EXACT)


def test_models_that_do_not_go_together_are_the_users_error(models: Path, tmp_path: Path) -> None:
    query, wide = str(models / "one"), str(models / "wide")
    with pytest.raises(UserError, match=r"makes vectors of 16 numbers, .* of 32"):
        build_embedder(DualEncoderConfig(query_model=query, key_model=wide))
    save_encoder(tmp_path)
    changed_config(tmp_path, model_type="dpr")
    with pytest.raises(UserError, match=r"embedder\.query_model=.* is in DPR's own format"):
        build_embedder(DualEncoderConfig(query_model=str(tmp_path), key_model=query))
    with pytest.raises(UserError, match=r"embedder\.key_model=.*has no model\.safetensors"):
        build_embedder(DualEncoderConfig(query_model=query, key_model="./nowhere"))


def test_weights_of_modules_are_weights_too(models: Path, tmp_path: Path) -> None:
    save_encoder(tmp_path, seed=1)
    alone = digest_of(tmp_path)
    (tmp_path / "1_Dense").mkdir()
    digests = {alone}
    for value in (0.0, 1.0):
        save_file({"weight": torch.full((2,), value)}, tmp_path / "1_Dense/model.safetensors")
        digests.add(digest_of(tmp_path))
    assert len(digests) == 3
    (tmp_path / "model.safetensors").rename(tmp_path / "1_Dense/model.safetensors")
    assert model_folder("embedder.model", str(tmp_path)) == tmp_path
    assert digest_of(tmp_path) == alone

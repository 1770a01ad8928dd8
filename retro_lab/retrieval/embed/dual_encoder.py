"""Embeddings by two encoders, one for searched chunks (keys) and one for queries, as in DPR."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    DualEncoderConfig,
    ModelEmbedderConfig,
    SentenceTransformerConfig,
)

from .embedders import settings
from .pretrained import digest_of, model_folder, on_hub
from .sentence_transformer import SentenceTransformerEmbedder

_SIDES = ("query_model", "key_model")


class DualEncoder:
    """Embeds keys with one frozen encoder, queries with another that was trained with it.

    Source: Karpukhin et al., "Dense passage retrieval for open-domain question answering", 2020.

    Attributes:
        dim: width of both vectors.
        query: embedder of queries.
    """

    def __init__(self, config: DualEncoderConfig) -> None:
        self.query, self._key = (_one_side(config, side) for side in _SIDES)
        self.dim = self._key.dim
        if self.query.dim != self.dim:
            raise UserError(
                f"embedder.query_model={config.query_model} makes vectors of {self.query.dim} "
                f"numbers, embedder.key_model={config.key_model} of {self.dim}",
                fix="give two models that were trained together",
            )

    @classmethod
    def content_fields(cls, config: DualEncoderConfig) -> dict[str, Any]:
        """All settings but the batch size; local weights by digest, hub models by name."""
        found = settings(config, without=("batch_size",))
        for side in _SIDES:
            if not on_hub(name := getattr(config, side)):
                found[f"{side}_sha256"] = digest_of(model_folder(f"embedder.{side}", name))
        return found

    def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dim], vectors of keys."""
        return self._key.embed(texts)


def _one_side(config: DualEncoderConfig, side: str) -> SentenceTransformerEmbedder:
    shared = {f.name: getattr(config, f.name) for f in fields(ModelEmbedderConfig)}
    one = SentenceTransformerConfig(**shared, model=getattr(config, side))
    return SentenceTransformerEmbedder(one, f"embedder.{side}")

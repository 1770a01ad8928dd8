"""Embeddings without a model: hashed word n-grams, for tests and a first look at a corpus."""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

import numpy as np

from retro_lab.config.schema import HashingEmbedderConfig

from .embedders import settings

_WORD = re.compile(r"\w+|[^\w\s]")


class HashingEmbedder:
    """Counts of word n-grams; the CRC-32 of an n-gram determines its slot and sign.

    Source: Weinberger et al., "Feature hashing for large scale multitask learning", 2009. Words are
    lower-cased; a punctuation mark is a word. Vectors have unit length, or are zero for text
    without words.
    """

    query = None

    def __init__(self, config: HashingEmbedderConfig) -> None:
        self.dim = config.dim
        self._ngram = config.ngram

    @classmethod
    def content_fields(cls, config: HashingEmbedderConfig) -> dict[str, Any]:
        """Both settings."""
        return settings(config, without=())

    def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dim]."""
        hashes = [self._hashes(text) for text in texts]
        lengths = [len(row) for row in hashes]
        flat = np.array([value for row in hashes for value in row], dtype=np.int64)
        slots = np.repeat(np.arange(len(texts)), lengths) * self.dim + (flat >> 1) % self.dim
        signs = 1.0 - 2.0 * (flat & 1)
        counts = np.bincount(slots, weights=signs, minlength=len(texts) * self.dim)
        vectors = counts.reshape(len(texts), self.dim)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)

    def _hashes(self, text: str) -> list[int]:
        words = _WORD.findall(text.lower())
        return [
            crc32(" ".join(words[start : start + n]).encode())
            for n in range(1, self._ngram + 1)
            for start in range(len(words) - n + 1)
        ]

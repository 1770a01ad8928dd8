"""Group `tokenizer`: text to token ids."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class TokenizerConfig:
    """Base of all tokenizers."""

    name: str = "bpe"


@dataclass
class BpeTokenizerConfig(TokenizerConfig):
    """Byte-level BPE, lossless, trained on the training split.

    Attributes:
        vocab_size: number of token ids, the two special ones included.
        max_train_bytes: training text is cut to this many bytes.
    """

    vocab_size: int = 4096
    max_train_bytes: int = 50_000_000


@dataclass
class ByteTokenizerConfig(TokenizerConfig):
    """UTF-8 bytes as tokens, plus the two special ids."""

    name: str = "byte"


@dataclass
class HfTokenizerConfig(TokenizerConfig):
    """A Hugging Face tokenizer by hub name or local folder."""

    name: str = "hf"
    path: str = MISSING

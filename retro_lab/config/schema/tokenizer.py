"""Group `tokenizer`: text to token ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from ..errors import UserError, problem
from .setting import setting


@dataclass
class TokenizerConfig:
    """Base of all tokenizers.

    Attributes:
        name: the option's name.
    """

    name: str = "bpe"


@dataclass
class BpeTokenizerConfig(TokenizerConfig):
    """Byte-level BPE, lossless, trained on the training split.

    Attributes:
        vocab_size: number of token ids, including the two special ones.
        max_train_bytes: most bytes of text to train the tokenizer on.
    """

    vocab_size: int = setting(4096, at_most=2**24)
    max_train_bytes: int = setting(50_000_000, at_least=1)

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.vocab_size < 258:
            yield problem(
                f"{prefix}vocab_size",
                self.vocab_size,
                "must be at least 258: the 256 bytes and two special ids",
                f"{prefix}vocab_size=4096",
            )


@dataclass
class ByteTokenizerConfig(TokenizerConfig):
    """UTF-8 bytes as tokens, plus the two special ids."""

    name: str = "byte"


@dataclass
class HfTokenizerConfig(TokenizerConfig):
    """A Hugging Face tokenizer.

    Attributes:
        path: hub name or local folder.
    """

    name: str = "hf"
    path: str = setting(MISSING, path=True)

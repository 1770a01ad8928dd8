"""Tokenizer `byte`: UTF-8 bytes as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .base import Encoded

_BYTES = 256


class ByteTokenizer:
    """Ids 0 to 255 are bytes; 256 is the boundary, 257 padding."""

    vocab_size = _BYTES + 2
    boundary_id = _BYTES
    pad_id = _BYTES + 1

    def encode_batch(self, texts: Sequence[str]) -> list[Encoded]:
        raw = (np.frombuffer(text.encode(), np.uint8) for text in texts)
        return [Encoded(ids.astype(np.int32), np.ones(len(ids), np.uint32)) for ids in raw]

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(i for i in ids if i < _BYTES).decode(errors="replace")

    @classmethod
    def load(cls, folder: Path) -> ByteTokenizer:
        return cls()

"""Group `chunking`: the chunk grid of retrieval, CCA and the windows."""

from __future__ import annotations

from dataclasses import dataclass

from .setting import setting


@dataclass
class ChunkingConfig:
    """Sizes in tokens.

    Attributes:
        chunk_size: tokens of a chunk, the paper's m.
        continuation_chunks: chunks that follow a neighbour and are read with it; a retrieved value
            has r = chunk_size * (1 + continuation_chunks) tokens.
        sequence_length: tokens of a training or evaluation window, the paper's n; a multiple of
            chunk_size.
    """

    chunk_size: int = setting(64, at_least=2, at_most=2**16)
    continuation_chunks: int = setting(1, at_least=0, at_most=2**10)
    sequence_length: int = setting(512, at_most=2**22)

"""A chunk store in memory: documents of given lengths, cut as the real store cuts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import SPLITS

PAD, BOUNDARY, VOCABULARY = 99, 98, 100


class SmallStore(ChunkStore):
    """`ChunkStore` over arrays in memory rather than files.

    Args:
        lengths: tokens of each document, its boundary token included.
        splits: split of each document; all train unless given.
        chunk_size: M.
        seed: of tokens and bytes.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        chunk_size: int = 4,
        splits: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.pad_id, self.boundary_id, self.vocab_size = PAD, BOUNDARY, VOCABULARY
        self.lengths = list(lengths)
        self.document_splits = list(splits or ["train"] * len(lengths))
        counts = [-(-length // chunk_size) for length in lengths]
        tokens = np.full((sum(counts), chunk_size), PAD, np.uint16)
        token_bytes = np.zeros(tokens.shape, np.uint32)
        self.first_chunk = np.cumsum([0, *counts])
        for first, length in zip(self.first_chunk, lengths, strict=False):
            body = slice(first * chunk_size + 1, first * chunk_size + length)
            tokens[first, 0] = BOUNDARY
            tokens.reshape(-1)[body] = rng.integers(0, 90, length - 1)
            # A token may end no character, and then accounts for no byte.
            token_bytes.reshape(-1)[body] = rng.integers(0, 5, length - 1)
        self.tokens, self.token_bytes = tokens, token_bytes
        self.document = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        self.index = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
        split = [SPLITS.index(self.document_splits[document]) for document in self.document]
        self.split = np.array(split, np.uint8)

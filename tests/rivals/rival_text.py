"""A chunk store and a corpus in memory, and a small untrained model over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from retro_lab.config.schema import ChunkingConfig
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.cpu import accelerate
from retro_lab.text.chunks import ChunkStore
from retro_lab.text.corpus import SPLITS, Corpus

PAD, BOUNDARY, VOCABULARY = 49, 48, 50
SIZE, WINDOW, STRIDE = 4, 16, 8


class SmallStore(ChunkStore):
    """`ChunkStore` in memory: documents of given lengths in tokens, boundary included."""

    def __init__(self, lengths: Sequence[int], splits: Sequence[str], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.pad_id, self.boundary_id, self.vocab_size = PAD, BOUNDARY, VOCABULARY
        counts = [-(-length // SIZE) for length in lengths]
        tokens = np.full((sum(counts), SIZE), PAD, np.uint16)
        token_bytes = np.zeros(tokens.shape, np.uint32)
        self.first_chunk = np.cumsum([0, *counts])
        for first, length in zip(self.first_chunk, lengths, strict=False):
            body = slice(first * SIZE + 1, first * SIZE + length)
            tokens[first, 0] = BOUNDARY
            tokens.reshape(-1)[body] = rng.integers(0, 40, length - 1)
            token_bytes.reshape(-1)[body] = rng.integers(1, 4, length - 1)
        self.tokens, self.token_bytes = tokens, token_bytes
        self.document = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        self.index = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
        self.split = np.array([SPLITS.index(splits[d]) for d in self.document], np.uint8)


class SmallCorpus(Corpus):
    """Raw text of the store's documents; documents in `forbidden` may not be read."""

    def __init__(self, store: SmallStore, forbidden: Sequence[int] = (), seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        sizes = np.bincount(store.document, store.token_bytes.sum(axis=1)).astype(int)
        self.texts = [bytes(rng.integers(97, 101, size).tolist()) for size in sizes]
        self.forbidden = set(forbidden)

    def raw(self, document: int) -> bytes:
        assert document not in self.forbidden, "this document must not be read"
        return self.texts[document]


def small_store(seed: int = 0) -> SmallStore:
    """Six training, two validation and three test documents; one of them has no text at all."""
    lengths = [30, 9, 41, 17, 5, 26, 33, 14, 37, 1, 21]
    splits = ["train"] * 6 + ["validation"] * 2 + ["test"] * 3
    return SmallStore(lengths, splits, seed)


def subset_of(store: ChunkStore, split: str) -> Subset:
    return Subset.whole(store, split, ChunkingConfig(SIZE, 1, WINDOW), STRIDE)


def small_model(seed: int = 0) -> Retro:
    """Two layers of random weights, large enough to tell contexts apart."""
    torch.manual_seed(seed)
    config = RetroConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        num_layers=2,
        num_heads=2,
        head_dim=8,
        d_ff=32,
        chunk_size=SIZE,
        pad_id=PAD,
        smeared_keys=True,
    )
    model = accelerate(Retro(config)).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(20)
    return model

"""Tokenizer `bpe`: lossless byte-level BPE, trained on the training split."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from retro_lab.config.schema import BpeTokenizerConfig
from retro_lab.store import track

from ..corpus import Corpus
from .base import CUT_LIMITS, CutLimits, Encoded, batches, cut_all, pieces

FILE = "tokenizer.json"

# Encoding uses all cores. Set explicitly, this silences the library's warning for every forked
# data-loading process, although these never tokenize.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


class BpeTokenizer:
    """Byte-level BPE with GPT-2's pre-tokenizer; boundary and padding are the last two ids.

    Args:
        backend: the trained vocabulary without special tokens, ids 0 to V - 3.
    """

    def __init__(self, backend: Backend) -> None:
        size = backend.get_vocab_size()
        self.vocab_size = size + 2
        self.boundary_id = size
        self.pad_id = size + 1
        self._backend = backend
        # A byte-level token's name has one character for each byte.
        self._num_bytes = np.zeros(size, np.uint32)
        for name, i in backend.get_vocab().items():
            self._num_bytes[i] = len(name)

    @property
    def definition(self) -> str:
        """The `tokenizers` library's JSON."""
        return self._backend.to_str()

    @classmethod
    def load(cls, folder: Path) -> BpeTokenizer:
        return cls(Backend.from_file(str(folder / FILE)))

    def encode_batch(self, texts: Sequence[str], limits: CutLimits = CUT_LIMITS) -> list[Encoded]:
        cut, owners = cut_all(texts, limits.piece)
        ids: list[list[np.ndarray]] = [[] for _ in texts]
        for part in batches([len(piece) for piece in cut], limits.batch):
            encodings = self._backend.encode_batch_fast(cut[part], add_special_tokens=False)
            for owner, encoding in zip(owners[part], encodings, strict=True):
                ids[owner].append(np.array(encoding.ids, np.int32))
        joined = [np.concatenate(parts) for parts in ids]
        return [Encoded(found, self._num_bytes[found]) for found in joined]

    def decode(self, ids: Iterable[int]) -> str:
        return self._backend.decode([int(i) for i in ids if i < self.boundary_id])


def train_bpe(config: BpeTokenizerConfig, corpus: Corpus, folder: Path) -> BpeTokenizer:
    """Trains on the training documents in order, and writes the tokenizer into `folder`.

    A small corpus may give fewer ids than `vocab_size`.
    """
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - 2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    total = min(corpus.num_bytes("train"), config.max_train_bytes)
    with track(total, "training the BPE tokenizer", "bytes") as advance:
        texts = _training_texts(corpus, config.max_train_bytes)
        backend.train_from_iterator(_counted(texts, advance), trainer)
    backend.save(str(folder / FILE))
    return BpeTokenizer(backend)


def _training_texts(corpus: Corpus, max_bytes: int) -> Iterator[str]:
    left = max_bytes
    for document in corpus.documents_of("train"):
        data = corpus.raw(document)[:left]
        left -= len(data)
        yield from pieces(data.decode(errors="ignore"))  # the limit may split a character
        if not left:
            return


def _counted(texts: Iterable[str], advance: Callable[[int], None]) -> Iterator[str]:
    for text in texts:
        yield text
        advance(len(text.encode()))

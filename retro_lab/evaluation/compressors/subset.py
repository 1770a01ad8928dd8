"""The documents that rivals are scored and tuned on.

Shapes: S scored chunks of the split in corpus order, D of its documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import ChunkingConfig, RivalsConfig
from retro_lab.data.dataset import EvaluationData
from retro_lab.text.chunks import ChunkStore


@dataclass(frozen=True)
class Subset:
    """Some documents of one split, with their scored chunks and evaluation windows.

    Attributes:
        store: the corpus in chunks.
        split: the documents' split.
        documents: int64 [D], ascending numbers in the corpus; each has a token to score.
        chunking: sizes of windows and chunks.
        stride: tokens between evaluation windows.
    """

    store: ChunkStore
    split: str
    documents: NDArray[np.int64]
    chunking: ChunkingConfig
    stride: int

    @classmethod
    def whole(cls, store: ChunkStore, split: str, chunking: ChunkingConfig, stride: int) -> Subset:
        """All documents of a split with a token to score."""
        chunks = store.chunks_of(split)
        tokens = _scored_tokens(store, chunks)
        documents = np.unique(np.asarray(store.document)[chunks[tokens > 0]]).astype(np.int64)
        return cls(store, split, documents, chunking, stride)

    def only(self, documents: NDArray[np.int64]) -> Subset:
        """The subset of the given documents of this split."""
        return Subset(self.store, self.split, np.sort(documents), self.chunking, self.stride)

    def drawn(
        self, seed: int, *, documents: int | None = None, tokens: int | None = None
    ) -> Subset:
        """A random sample of documents, fixed by the seed.

        Args:
            documents: size of the sample.
            tokens: used if `documents` is None; documents are added until they hold this many.
        """
        order = np.random.default_rng(seed).permutation(self.documents)
        if documents is not None:
            return self.only(order[:documents])
        lengths = np.bincount(self.document, self.tokens, int(self.documents[-1]) + 1)
        before = np.cumsum(lengths[order]) - lengths[order]
        return self.only(order[before < (tokens or 0)])

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """[S] ids of the scored chunks, ascending."""
        chunks = self.store.chunks_of(self.split)
        chunks = chunks[np.isin(self.store.document[chunks], self.documents)]
        return chunks[_scored_tokens(self.store, chunks) > 0]

    @cached_property
    def document(self) -> NDArray[np.int64]:
        """[S] document of each scored chunk."""
        return np.asarray(self.store.document)[self.rows].astype(np.int64)

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """[S] scored tokens."""
        return _scored_tokens(self.store, self.rows)

    @cached_property
    def bytes(self) -> NDArray[np.int64]:
        """[S] UTF-8 bytes of the scored tokens."""
        return np.asarray(self.store.token_bytes)[self.rows].sum(axis=1, dtype=np.int64)

    def first_chunk(self, document: int) -> int:
        """Id of a document's first chunk."""
        return int(self.store.first_chunk[document])

    def tokens_of(self, document: int) -> NDArray[np.int64]:
        """All tokens of a document, its boundary token first, without padding."""
        first, last = self.store.first_chunk[document : document + 2]
        tokens = np.asarray(self.store.tokens[first:last]).reshape(-1).astype(np.int64)
        return tokens[tokens != self.store.pad_id]

    def windows(self) -> tuple[EvaluationData, NDArray[np.int64]]:
        """The split's evaluation windows, and the numbers of the windows of these documents."""
        data = EvaluationData(self.store, self.split, self.chunking, None, 0, self.stride)
        first = data.order[data.windows.start_chunk]
        mine = np.isin(self.store.document[first], self.documents)
        return data, np.flatnonzero(mine)


@dataclass(frozen=True)
class Subsets:
    """The subsets that all rivals of one run use.

    Attributes:
        test: every document of the evaluated split.
        training: the training split, which rivals learn from.
        subsample: a sample of `test`, for costly rivals.
        validation: the validation split, from which tuning documents are drawn.
        config: sizes of the samples.
        seed: seed of the samples.
    """

    test: Subset
    training: Subset
    subsample: Subset
    validation: Subset
    config: RivalsConfig
    seed: int

    @classmethod
    def of(
        cls,
        store: ChunkStore,
        split: str,
        chunking: ChunkingConfig,
        stride: int,
        seed: int,
        config: RivalsConfig,
    ) -> Subsets:
        """Builds the subsets of a run.

        Raises:
            UserError: the validation split has no token to tune on.
        """
        test, training, validation = (
            Subset.whole(store, name, chunking, stride) for name in (split, "train", "validation")
        )
        if not len(validation.documents):
            raise UserError(
                "the validation split has no token, and rivals are tuned on it",
                fix="give it documents: corpus.split.validation is the share of them",
            )
        subsample = test.drawn(seed, documents=config.subsample_documents)
        return cls(test, training, subsample, validation, config, seed)

    @cached_property
    def tuning(self) -> Subset:
        """Validation documents with about `tuning_tokens` tokens in all."""
        return self.validation.drawn(self.seed, tokens=self.config.tuning_tokens)

    def for_stride(self, stride: int) -> tuple[Subset, Subset]:
        """Subsets for scoring and for tuning a rival that retrieves every `stride` tokens.

        Strides below `ralm.full_from` use the subsample, and tuning text in proportion to the
        stride, so that each setting costs as many forward passes as at `full_from`.
        """
        full_from = self.config.ralm.full_from
        if stride >= full_from:
            return self.test, self.tuning
        tokens = self.config.tuning_tokens * stride // full_from
        return self.subsample, self.validation.drawn(self.seed, tokens=tokens)


def _scored_tokens(store: ChunkStore, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of text tokens of each chunk, without padding and the document's boundary token."""
    tokens = np.asarray(store.tokens[chunks])
    begins = np.asarray(store.index)[chunks] == 0
    return (tokens != store.pad_id).sum(axis=1) - begins

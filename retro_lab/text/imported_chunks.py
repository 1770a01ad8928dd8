"""Chunks of an imported dataset, with its own chunk boundaries and neighbours.

Chunks keep their boundaries, so that each holds exactly the tokens that its neighbours were
searched for. With a boundary token in front, a chunk's last position would predict a token of the
query. Instead the boundary replaces the first token, which the dataset's own code reads but never
predicts. The document's end token becomes padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import CorpusConfig, NorlundCorpusConfig
from retro_lab.store import Workspace

from .chunks import ChunkStore, chunk_arrays, count_tokens, token_type, write_chunks
from .corpus import SPLITS, Corpus
from .readers.norlund import (
    PAD,
    NorlundDataset,
    Shard,
    require_known,
    token_pieces,
    unknown_token,
)
from .tokenizers.base import Tokenizer


def brings_chunks(config: CorpusConfig) -> bool:
    """Whether a corpus is a dataset of chunks."""
    return isinstance(config, NorlundCorpusConfig)


def build_imported_chunks(
    config: NorlundCorpusConfig,
    chunk_size: int,
    corpus: Corpus,
    tokenizer: Tokenizer,
    workspace: Workspace,
) -> Mapping[str, Any]:
    """Writes the dataset's chunks of the corpus's documents, with neighbours.npy.

    Returns:
        As `build_chunks`, and for each split `unknown`: tokens without bytes, for text outside the
        dataset's vocabulary.

    Raises:
        UserError: a file is damaged, or the chunks are of another size.
    """
    dataset = NorlundDataset(config)
    if dataset.chunk_size != chunk_size:
        raise UserError(
            f"chunking.chunk_size={chunk_size}, but the dataset's chunks have "
            f"{dataset.chunk_size} tokens",
            fix=f"chunking.chunk_size={dataset.chunk_size}, with a chunking.sequence_length of two "
            "or more chunks",
        )
    cut = _Import(config, corpus, tokenizer, dataset)
    stats = write_chunks(corpus, tokenizer, workspace, cut.documents)
    unknown = count_tokens(ChunkStore(workspace.path), lambda tokens: tokens == cut.unknown)
    for split, count in zip(SPLITS, unknown.tolist(), strict=True):
        stats["splits"][split]["unknown"] = count
    return stats | {"unknown": int(unknown.sum())}


class _Kept:
    """Positions in the store of the dataset's documents and chunks; empty documents have none.

    Args:
        numbers: int64 [d], the dataset's number of each document of the store.
    """

    def __init__(self, dataset: NorlundDataset, numbers: NDArray[np.int64]) -> None:
        self.numbers = numbers
        starts = [
            start + shard.first[:-1]
            for start, shard in zip(dataset.first_chunk, dataset.shards, strict=False)
        ]
        self.first = np.append(np.concatenate(starts), dataset.first_chunk[-1])
        self.document = np.full(len(self.first) - 1, -1, np.int64)
        self.document[numbers] = np.arange(len(numbers))
        counts = np.diff(self.first)[numbers]
        self.first_in_store = np.cumsum(counts) - counts

    def in_store(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ids in the store of chunk numbers in the dataset, -1 for none."""
        real = chunks >= 0
        number = np.searchsorted(self.first, np.where(real, chunks, 0), "right") - 1
        document = self.document[number]
        found = self.first_in_store[document] + chunks - self.first[number]
        return np.where(real & (document >= 0), found, -1)


class _Import:
    """Converts blocks of documents to arrays of chunks.

    Args:
        tokenizer: its boundary token ends the dataset's documents.
        dataset: the opened dataset; opened here if None.
    """

    def __init__(
        self,
        config: NorlundCorpusConfig,
        corpus: Corpus,
        tokenizer: Tokenizer,
        dataset: NorlundDataset | None = None,
    ) -> None:
        self._given = config, corpus, tokenizer
        dataset = dataset or NorlundDataset(config)
        self.dataset, self.corpus, self.tokenizer = dataset, corpus, tokenizer
        self.kept = _Kept(dataset, np.array(corpus.ids, np.int64))
        self.unknown = unknown_token(config)
        lengths = [len(piece.encode()) for piece in token_pieces(config)]
        self.piece_bytes = np.array(lengths, np.uint32)
        widths = [0 if s.neighbours is None else s.neighbours.shape[1] for s in dataset.shards]
        self.width = max(widths)

    def __reduce__(self) -> tuple:
        return type(self), self._given  # other processes map the shards themselves

    def documents(self, first: int, last: int) -> dict[str, np.ndarray]:
        """The arrays of documents [first, last)."""
        numbers = self.kept.numbers[first:last]
        shards = np.searchsorted(self.dataset.first_document, numbers, "right") - 1
        parts = [
            self._document(self.dataset.shards[shard], int(number))
            for shard, number in zip(
                shards, numbers - self.dataset.first_document[shards], strict=True
            )
        ]
        counts = np.array([len(tokens) for tokens, _, _ in parts], np.int64)
        tokens, token_bytes, neighbours = (
            np.concatenate(arrays) for arrays in zip(*parts, strict=True)
        )
        arrays = chunk_arrays(first, last, counts, tokens, token_bytes, self.corpus)
        return {**arrays, "neighbours": neighbours}

    def _document(
        self, shard: Shard, number: int
    ) -> tuple[np.ndarray, np.ndarray, NDArray[np.int32]]:
        """Tokens and bytes [c, M] and neighbours [c, K] of a document's chunks."""
        rows = slice(shard.first[number], shard.first[number + 1])
        stored = np.asarray(shard.chunks[rows])
        require_known(stored, len(self.piece_bytes), shard.name)
        special = np.isin(stored, (PAD, self.tokenizer.boundary_id))  # spelt in the text
        tokens = np.where(special, self.unknown, stored.astype(np.int64))
        token_bytes = np.where(special, 0, self.piece_bytes[stored]).astype(np.uint32)
        filler = np.arange(stored.size).reshape(stored.shape) >= len(shard.document(number))
        tokens[filler], token_bytes[filler] = self.tokenizer.pad_id, 0
        tokens[0, 0], token_bytes[0, 0] = self.tokenizer.boundary_id, 0
        return tokens.astype(token_type(self.tokenizer)), token_bytes, self._neighbours(shard, rows)

    def _neighbours(self, shard: Shard, rows: slice) -> NDArray[np.int32]:
        found = np.full((rows.stop - rows.start, self.width), -1, np.int32)
        if shard.neighbours is None:
            return found
        stored = shard.neighbours[rows].astype(np.int64)
        starts, total = shard.targets[:, 0], shard.targets[-1, 0]
        if stored.size and not -1 <= stored.min() <= stored.max() < total:
            raise UserError(
                f"neighbours of {shard.name}: {stored.min()} to {stored.max()} is outside of the "
                f"{total:,} chunks of the index spec",
                fix="check that index_spec names the shards that were searched, in their order",
            )
        target = np.searchsorted(starts, np.maximum(stored, 0), "right") - 1
        chunks = np.where(stored < 0, -1, shard.targets[target, 1] + stored - starts[target])
        found[:, : stored.shape[1]] = self.kept.in_store(chunks)
        return found

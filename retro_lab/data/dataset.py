"""Datasets of windows as tensors: tokens, targets, target bytes and chunks, and neighbours.

A whole batch is gathered at once with numpy (`__getitems__`, which PyTorch's fetcher calls), so
loading keeps up with the model without worker processes.

Legend: B batch, N tokens a window, U chunks a window, M tokens a chunk, K neighbours,
R tokens of a neighbour with its continuation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from retro_lab.config.schema import ChunkingConfig
from retro_lab.retrieval.table import NeighbourTable
from retro_lab.text.chunks import ChunkStore

from .windows import Window, evaluation_windows, split_documents, training_windows

IGNORED = -100
Batch = dict[str, Tensor]


class WindowData(Dataset):
    """Windows of one split.

    A batch is a dict of int64 tensors:

    | key | shape | content |
    | --- | --- | --- |
    | input_ids | [B, N] | tokens; pad_id beyond the window's chunks |
    | targets | [B, N] | the next token of the same document; -100 where nothing is scored |
    | document_ids | [B, N] | document of each position; padding has the last document |
    | target_bytes | [B, N] | raw UTF-8 bytes of the target; 0 where nothing is scored |
    | target_chunks | [B, N] | id of the target's chunk; -1 where nothing is scored |
    | chunk_ids | [B, U] | id of each input chunk; -1 is padding |
    | neighbour_chunks | [B, U, K] | chunk ids of neighbours; -1 is missing |
    | neighbour_ids | [B, U, K, R] | tokens of neighbours and continuations; pad_id if missing |

    The last two are absent without retrieval. Window number -1 gives an empty window, so that all
    ranks that share a split get equally many windows.
    """

    def __init__(
        self,
        store: ChunkStore,
        split: str,
        windows: Window,
        chunking: ChunkingConfig,
        table: NeighbourTable | None,
        k: int,
    ) -> None:
        self.store = store
        self.windows = windows
        self.order = store.chunks_of(split)
        self.window_chunks = chunking.sequence_length // store.chunk_size
        self.continuation_chunks = chunking.continuation_chunks
        self.table = table
        self.k = k

    def __len__(self) -> int:
        return self.windows.count

    def __getitem__(self, index: int) -> Batch:
        return {name: tensor[0] for name, tensor in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        window = self.windows.take(np.asarray(indices, dtype=np.int64))
        chunks = self._chunks(window)  # [B, U + 1]
        column = np.arange(self.window_chunks)
        inside = column < window.num_chunks[:, None]
        chunk_ids = np.where(inside, chunks[:, :-1], -1)
        arrays = self._tokens(window, chunks) | {"chunk_ids": chunk_ids}
        if self.table is not None:
            arrays |= self._neighbours(self.table, chunk_ids)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _chunks(self, window: Window) -> NDArray[np.int64]:
        """[B, U + 1] ids of the input chunks and of the chunk after them; -1 is none."""
        column = np.arange(self.window_chunks + 1)
        place = window.start_chunk[:, None] + column
        count = window.num_chunks[:, None]
        valid = (column <= count) & (count > 0) & (place < len(self.order))
        return np.where(valid, self.order[np.minimum(place, len(self.order) - 1)], -1)

    def _tokens(self, window: Window, chunks: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Inputs and targets; the last target may be in the chunk after the window."""
        store, size = self.store, self.store.chunk_size
        length = self.window_chunks * size
        real, rows = chunks >= 0, np.maximum(chunks, 0)
        tokens = np.where(real[..., None], store.tokens[rows], store.pad_id)
        tokens = tokens.reshape(len(chunks), -1).astype(np.int64)
        token_bytes = store.token_bytes[rows].reshape(tokens.shape).astype(np.int64)
        document = np.where(real, store.document[rows], -1).astype(np.int64)

        position = np.arange(length)
        read = position < (window.num_chunks * size)[:, None]
        last = np.maximum(window.num_chunks - 1, 0)
        last_document = np.maximum(np.take_along_axis(document, last[:, None], axis=1), 0)
        own_document = np.where(read, document[:, :-1].repeat(size, axis=1), last_document)

        following = slice(1, length + 1)
        target, target_document = tokens[:, following], document.repeat(size, axis=1)[:, following]
        scored = (
            read
            & (position >= window.first_target[:, None])
            & (target != store.pad_id)
            & (target_document == own_document)
        )
        return {
            "input_ids": np.where(read, tokens[:, :length], store.pad_id),
            "targets": np.where(scored, target, IGNORED),
            "document_ids": own_document,
            "target_bytes": np.where(scored, token_bytes[:, following], 0),
            "target_chunks": np.where(scored, chunks.repeat(size, axis=1)[:, following], -1),
        }

    def _neighbours(
        self, table: NeighbourTable, chunk_ids: NDArray[np.int64]
    ) -> dict[str, NDArray[np.int64]]:
        """Neighbours from documents outside the window, as in RETRO."""
        document, real = self.store.identity, chunk_ids >= 0
        packed = np.where(real, document[np.maximum(chunk_ids, 0)], -1)  # [B, U]
        row, _ = np.nonzero(real)
        ids = np.full((*chunk_ids.shape, self.k), -1, np.int64)
        ids[real] = table.select(chunk_ids[real], self.k, packed[row], document)
        return {
            "neighbour_chunks": ids,
            "neighbour_ids": self.store.values(ids, self.continuation_chunks),
        }


class TrainingData(WindowData):
    """Windows of the training split, packed end to end."""

    def __init__(
        self, store: ChunkStore, chunking: ChunkingConfig, table: NeighbourTable | None, k: int
    ) -> None:
        window_chunks = chunking.sequence_length // store.chunk_size
        windows = training_windows(len(store.chunks_of("train")), window_chunks)
        super().__init__(store, "train", windows, chunking, table, k)


class EvaluationData(WindowData):
    """Windows over a split's documents that score each token except the boundary token once.

    Args:
        stride: tokens between windows, a multiple of the chunk size, at most the window.

    Raises:
        ValueError: the stride is not a multiple of the chunk size.
    """

    def __init__(
        self,
        store: ChunkStore,
        split: str,
        chunking: ChunkingConfig,
        table: NeighbourTable | None,
        k: int,
        stride: int,
    ) -> None:
        if stride % store.chunk_size:
            raise ValueError(f"a stride of {stride} tokens is not whole chunks")
        first_chunk, last_token = split_documents(store, split)
        windows = evaluation_windows(
            first_chunk,
            last_token,
            chunking.sequence_length // store.chunk_size,
            stride // store.chunk_size,
            store.chunk_size,
        )
        super().__init__(store, split, windows, chunking, table, k)

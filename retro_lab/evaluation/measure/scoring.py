"""Scores a model on windows under a condition and sums the nats by chunk.

`on` reads the neighbours of the batch, `off` reads none (retrieval=False). `random`, `shuffled`,
`filtered` and `oracle` are `on` with neighbours from another dataset. `on_without_pointer` is `on`
inside `without_pointer`. `baseline` and `plain` are other models.

Shapes: B batch, N tokens, U chunks of a window, K neighbours, R neighbour tokens, M chunk size,
C chunks of the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retro_lab.config.errors import UserError

from .metrics import ChunkScores, MemoryShares, TokenScores

UNSCORED = -1


def score(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    num_chunks: int,
    *,
    chunk_size: int,
    pad_id: int,
    retrieval: bool = True,
    by_token: bool = False,
    advance: Callable[[int], None] | None = None,
) -> ChunkScores:
    """Scores every target of every window, in evaluation mode, as float64 sums by chunk.

    Args:
        model: has `token_nats(input_ids, targets, neighbour_ids, document_ids) -> [B, N]`.
        batches: collated windows of `retro_lab.data`, in a fixed order.
        num_chunks: C, chunks of the corpus.
        chunk_size: M.
        pad_id: id of padding; a neighbour of padding alone is missing.
        retrieval: False withholds the neighbours (the backbone, and the baseline).
        by_token: also keep each token's score.
        advance: called after each batch with its number of windows, for a progress bar.

    Raises:
        UserError: the loss is not finite.
        ValueError: retrieval is on and a batch has no neighbours.
    """
    sums = ChunkSums(num_chunks, chunk_size if by_token else None)
    for moved in on_device(model, batches):
        neighbour_ids = _neighbours(moved, retrieval)
        batch_nats = _token_nats(model, moved, neighbour_ids)
        reads = reads_neighbours(moved["input_ids"], neighbour_ids, chunk_size, pad_id)
        scored = ScoredTokens.of(moved, reads, chunk_size)
        sums.add(scored, _flat(batch_nats)[scored.at])
        if advance is not None:
            advance(len(moved["input_ids"]))
    return sums.scores()


class ScoredTokens(NamedTuple):
    """The scored tokens of a batch of windows, T in all.

    Attributes:
        at: bool [B * N], which targets they are.
        chunk: int64 [T], ids of their chunks.
        place: int64 [T], places in their chunks.
        bytes: int64 [T].
        reads: bool [T], whether the prediction could read a neighbour.
    """

    at: NDArray[np.bool_]
    chunk: NDArray[np.int64]
    place: NDArray[np.int64]
    bytes: NDArray[np.int64]
    reads: NDArray[np.bool_]

    @classmethod
    def of(cls, batch: Mapping[str, Tensor], reads: Tensor, chunk_size: int) -> ScoredTokens:
        """The targets of a batch that have a chunk; reads is [B, N]."""
        chunk = _flat(batch["target_chunks"])
        at = chunk != UNSCORED
        # Position t predicts token t + 1, at place (t + 1) mod M of its chunk.
        place = np.broadcast_to((np.arange(reads.shape[1]) + 1) % chunk_size, reads.shape)
        num_bytes = _flat(batch["target_bytes"])
        return cls(at, chunk[at], place.reshape(-1)[at], num_bytes[at], _flat(reads)[at])


class ChunkSums:
    """Sums of scored tokens by chunk.

    Args:
        num_chunks: C.
        chunk_size: M, to also keep each token's score; None to sum only.
        experts: names of a memory's experts, to also keep what they gave to each token.
    """

    def __init__(
        self, num_chunks: int, chunk_size: int | None, experts: tuple[str, ...] = ()
    ) -> None:
        self._nats = np.zeros(num_chunks, np.float64)
        self._tokens, self._bytes, self._reads = (np.zeros(num_chunks, np.int64) for _ in range(3))
        self._each = None
        if chunk_size is not None:  # np.zeros takes memory only for the chunks written to
            shape = (num_chunks, chunk_size)
            memory = MemoryShares.empty(shape, experts) if experts else None
            self._each = TokenScores(np.zeros(shape, np.float64), np.zeros(shape, np.bool_), memory)

    def add(
        self,
        tokens: ScoredTokens,
        nats: NDArray[np.floating],
        memory: MemoryShares | None = None,
    ) -> None:
        """Adds the nats [T] of scored tokens, and what a memory gave to them."""
        np.add.at(self._nats, tokens.chunk, nats)
        np.add.at(self._tokens, tokens.chunk, 1)
        np.add.at(self._bytes, tokens.chunk, tokens.bytes.astype(np.int64))
        np.add.at(self._reads, tokens.chunk, tokens.reads.astype(np.int64))
        if self._each is not None:
            self._each.nats[tokens.chunk, tokens.place] = nats
            self._each.with_retrieval[tokens.chunk, tokens.place] = tokens.reads
            if self._each.memory is not None and memory is not None:
                self._each.memory[tokens.chunk, tokens.place] = memory

    def scores(self) -> ChunkScores:
        """The sums so far."""
        return ChunkScores(self._nats, self._tokens, self._bytes, self._reads, self._each)


def on_device(
    model: nn.Module, batches: Iterable[Mapping[str, Tensor]]
) -> Iterator[dict[str, Tensor]]:
    """The batches on the model's device; the model is in evaluation mode until they end."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            yield {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    finally:
        model.train(was_training)


@contextmanager
def without_pointer(model: nn.Module) -> Iterator[None]:
    """Switches a model's pointer read-out off within the context; encoder and CCA stay on."""
    pointer = model.pointer
    model.pointer = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        model.pointer = pointer


def _neighbours(batch: Mapping[str, Tensor], retrieval: bool) -> Tensor | None:
    if not retrieval:
        return None
    if "neighbour_ids" not in batch:
        raise ValueError("scoring with retrieval needs neighbour_ids in every batch")
    return batch["neighbour_ids"]


@torch.inference_mode()
def _token_nats(
    model: nn.Module, batch: Mapping[str, Tensor], neighbour_ids: Tensor | None
) -> Tensor:
    """[B, N] finite float64 nats, on the batch's device."""
    nats = model.token_nats(  # pyright: ignore[reportCallIssue]
        batch["input_ids"], batch["targets"], neighbour_ids, batch["document_ids"]
    ).double()
    if not bool(torch.isfinite(nats).all()):
        raise UserError(
            "the model gives a loss that is not finite, so it cannot be evaluated",
            fix="training has diverged: train again with a lower optim.lr or a longer warm-up",
        )
    return nats


def reads_neighbours(
    input_ids: Tensor, neighbour_ids: Tensor | None, chunk_size: int, pad_id: int
) -> Tensor:
    """[B, N] whether a position can read at least one neighbour.

    Position t, from 0, reads the neighbours of chunk (t - M + 1) // M once t >= M - 1
    (RETRO, section 2.4).
    """
    batch, length = input_ids.shape
    reads = torch.zeros(batch, length, dtype=torch.bool, device=input_ids.device)
    if neighbour_ids is None:
        return reads
    present_bu = (neighbour_ids != pad_id).flatten(2).any(-1)
    first = chunk_size - 1
    shifted = present_bu.repeat_interleave(chunk_size, dim=1)[:, : max(0, length - first)]
    reads[:, first : first + shifted.shape[1]] = shifted
    return reads


def _flat(tensor: Tensor) -> NDArray:
    return tensor.flatten().cpu().numpy()

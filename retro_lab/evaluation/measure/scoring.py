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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retro_lab.config.errors import UserError

from .metrics import ChunkScores, TokenScores

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
        retrieval: False withholds the neighbours (RETRO[OFF], and the baseline).
        by_token: also keep each token's score.
        advance: called after each batch with its number of windows, for a progress bar.

    Raises:
        UserError: the loss is not finite.
        ValueError: retrieval is on and a batch has no neighbours.
    """
    nats = np.zeros(num_chunks, np.float64)
    tokens, num_bytes, with_retrieval = (np.zeros(num_chunks, np.int64) for _ in range(3))
    each = None
    if by_token:  # np.zeros takes memory only for the chunks written to: the scored split
        shape = (num_chunks, chunk_size)
        each = TokenScores(np.zeros(shape, np.float64), np.zeros(shape, np.bool_))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
            neighbour_ids = _neighbours(moved, retrieval)
            batch_nats = _token_nats(model, moved, neighbour_ids)
            reads = _reads_neighbours(moved["input_ids"], neighbour_ids, chunk_size, pad_id)
            target_chunks = _flat(moved["target_chunks"])
            scored = target_chunks != UNSCORED
            ids = target_chunks[scored]
            np.add.at(nats, ids, _flat(batch_nats)[scored])
            np.add.at(tokens, ids, 1)
            np.add.at(num_bytes, ids, _flat(moved["target_bytes"])[scored].astype(np.int64))
            np.add.at(with_retrieval, ids, _flat(reads)[scored].astype(np.int64))
            if each is not None:
                # Position t predicts token t + 1, at place (t + 1) mod M of its chunk.
                place = (np.arange(reads.shape[1]) + 1) % chunk_size
                places = np.broadcast_to(place, reads.shape).reshape(-1)[scored]
                each.nats[ids, places] = _flat(batch_nats)[scored]
                each.with_retrieval[ids, places] = _flat(reads)[scored]
            if advance is not None:
                advance(len(moved["input_ids"]))
    finally:
        model.train(was_training)
    return ChunkScores(nats, tokens, num_bytes, with_retrieval, each)


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


def _reads_neighbours(
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

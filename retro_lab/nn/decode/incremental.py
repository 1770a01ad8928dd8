"""The forward pass in pieces, on a cache: what `Retro.step` does.

A batch is cut into pieces in which no row changes what it reads; the token that ends a chunk begins
the next piece, since it is the first to read that chunk's neighbours (RETRO, section 2.4).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..chunks import RetrievedChunks
from ..cpu import fused_token
from ..pointer import step_log_probs
from ..positions import Axis
from .cache import Cache, HeldNeighbours, NewPlaces

if TYPE_CHECKING:
    from ..retro import Retro


def step(model: Retro, new_ids: Tensor, cache: Cache, neighbour_ids: Tensor | None) -> Tensor:
    """See `Retro.step`."""
    if model.training:
        raise ValueError("step() has no dropout and no gradient: call eval() first")
    total = new_ids.shape[1]
    _check(model, max(map(len, cache.searches(total)), default=0), neighbour_ids)
    outputs, begun = [], 0
    used = [0] * len(new_ids)  # searches of each row that had their neighbours
    while begun < total:
        later = range(begun + 1, total)
        stop = next((end for end in later if cache.searching(end - begun)), total)
        rows, found = cache.searching(0), None
        if neighbour_ids is not None and rows:
            found = torch.stack([neighbour_ids[row, used[row]] for row in rows])
            for row in rows:
                used[row] += 1
        outputs.append(_piece(model, new_ids[:, begun:stop], cache, rows, found))
        begun = stop
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def _check(model: Retro, num_searches: int, neighbour_ids: Tensor | None) -> None:
    if neighbour_ids is None:
        return
    if not model.config.has_retrieval:
        raise ValueError("this model has no CCA layers; it cannot read neighbours")
    if neighbour_ids.dim() != 4 or neighbour_ids.shape[1] != num_searches:
        raise ValueError(
            f"neighbour_ids must be [B, {num_searches}, K, R], one row for each search that falls "
            f"among the new tokens, got {tuple(neighbour_ids.shape)}"
        )


def _piece(
    model: Retro, ids: Tensor, cache: Cache, rows: list[int], neighbours: Tensor | None
) -> Tensor:
    """`step` for ids [B, L], with whose first token `rows` turn to neighbours [B', K, R]."""
    start, length, offset = cache.length, ids.shape[1], cache.offset()
    x, blocks = model.embedding(ids), model._decoder()
    real, visible = cache.real(length), cache.visible(length)
    if real is not None:  # zeros stay zeros in every layer: a smeared key gets nothing from them
        x, ids = x * real.unsqueeze(-1), ids.masked_fill(~real, -1)
    axes = Axis(length, start), Axis(start + length)
    tables = blocks[0].attention.positions.incremental(*axes, x)
    by_kernels = fused_token.is_token(x, model.config.head_dim, visible)
    places = NewPlaces(tables, visible, by_kernels)
    for layer, (block, kept) in enumerate(zip(blocks, cache.layers, strict=True), start=1):
        x = block.attend_step(x, kept, places)
        if layer in model.config.cca_layers[:1]:
            _keep_activations(model, x, cache, rows, neighbours)
            if block.cca is not None and cache.held is not None:
                across = block.cca.step_tables(x, cache.held.chunks, offset)
                places = places._replace(across=across)
        x = block.finish_step(x, cache.held, places)
    hidden, held = model.norm(x), cache.held
    logits = model._read_out(hidden)
    if model.pointer is not None and held is not None and held.pointer_keys is not None:
        context = torch.cat((cache.recent, ids), dim=1)
        copy = model.pointer.step(hidden, held.pointer_keys, context, held.chunks)
        logits = step_log_probs(logits, copy)
    cache.remember(ids)
    return logits


def _keep_activations(
    model: Retro, x: Tensor, cache: Cache, rows: list[int], neighbours: Tensor | None
) -> None:
    """Adds x [B, L, D] to the latest activations; at a search, `rows` turn to the neighbours."""
    size, batch = model.config.chunk_size, len(x)
    if rows:
        latest = torch.cat((cache.activations, x[:, :1]), dim=1)[:, -size:]
        some = None if len(rows) == batch else torch.tensor(rows, device=x.device)
        if some is not None:
            latest = latest.index_select(0, some)
        held = None
        if neighbours is not None:
            held = _hold(model, latest, neighbours, cache.known(rows, size))
        if some is not None and held is not None:
            held = held.put(some, batch, cache.held)
        elif some is not None and cache.held is not None:
            held = cache.held.without(some)
        cache.held = held
    cache.activations = torch.cat((cache.activations, x), dim=1)[:, -size:]


def _hold(
    model: Retro, retrieving: Tensor, neighbours: Tensor, known: Tensor | None
) -> HeldNeighbours | None:
    """Encodes neighbours [B, K, R] for all layers.

    Args:
        retrieving: [B, L, D] activations of the latest tokens, L at most M.
        known: [B, M], see `RetrievedChunks`.
    """
    size = model.config.chunk_size
    chunks = RetrievedChunks.of(neighbours.unsqueeze(1), None, size, model.config)
    if not chunks.ids.numel():
        return None
    if known is not None:
        chunks = replace(chunks, known=known.unsqueeze(1))
        retrieving = F.pad(retrieving, (0, 0, size - retrieving.shape[1], 0))
    encoded = model._encode(retrieving, chunks)
    cca = {
        layer: block.cca.hold(encoded, chunks)
        for layer, block in enumerate(model._decoder(), start=1)
        if block.cca is not None
    }
    return HeldNeighbours(
        chunks, cca, None if model.pointer is None else model.pointer.hold(encoded)
    )

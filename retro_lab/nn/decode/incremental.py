"""The incremental forward pass on a cache.

A batch is cut into pieces during which no row changes its neighbours. A token that ends a chunk
begins a piece, since it is the first to read the chunk's neighbours (RETRO, section 2.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..chunks import RetrievedChunks
from ..ngram_table import NgramTable, preceding
from ..pointer import MAX_MATCH
from ..positions import Axis
from ..retro import Retro
from .cache import AttentionCache, Cache, HeldNeighbours
from .schedule import Schedule
from .steps import NewPlaces, held_keys, mixture_log_probs, proposal, steps_for, tables


def new_cache(
    model: Retro,
    batch: int,
    stride: int | None = None,
    first: Sequence[int] | None = None,
    shift: Sequence[int] | None = None,
) -> Cache:
    """An empty cache for `step`; see `Schedule` for the arguments.

    Args:
        batch: rows B.
        stride: tokens between searches; None for the chunk size.
        first: [B], number of leading positions of each row without a token (their ids are ignored),
            so that prompts of unequal length end together; None for none.
        shift: [B], tokens of left padding that shift the row's searches; None for none.
    """
    config, weight = model.config, model.embedding.weight
    schedule = Schedule.of(batch, config.chunk_size, stride, first, shift)
    columns = torch.tensor([schedule.first, schedule.phases], device=weight.device)
    return Cache(
        schedule=schedule,
        layers=[AttentionCache(config.num_heads, config.head_dim) for _ in model.blocks],
        activations=weight.new_empty(batch, 0, config.d_model),
        recent=torch.full((batch, MAX_MATCH - 1), -1, device=weight.device),
        first=columns[0].unsqueeze(1),
        phases=columns[1].unsqueeze(1),
    )


@torch.no_grad()
def step(
    model: Retro, new_ids: Tensor, cache: Cache, neighbour_ids: Tensor | None = None
) -> Tensor:
    """Result of `model.forward` at the new positions, computed for these only.

    A chunk's neighbours are passed with the step that holds its last token, which reads them first.

    Args:
        new_ids: [B, L], the tokens after those in the cache.
        cache: from `new_cache`; the new tokens are added.
        neighbour_ids: [B, U, K, R], neighbours for the searches of `cache.searches(L)`, with U
            their largest number in a row; other rows have theirs first. None disables reading until
            the next search.

    Returns:
        [B, L, V] logits; log-probabilities where the pointer has neighbours. Undefined before a
            row's
        first token.

    Raises:
        ValueError: training mode, or a wrong U.
    """
    if model.training:
        raise ValueError("step() has no dropout and no gradient: call eval() first")
    total = new_ids.shape[1]
    _check(model, max(map(len, cache.searches(total)), default=0), neighbour_ids)
    outputs, begun = [], 0
    used = [0] * len(new_ids)  # searches of each row that have got their neighbours
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
    """`step` for ids [B, L]; at their first token, `rows` switch to neighbours [B', K, R]."""
    start, length, offset = cache.length, ids.shape[1], cache.offset()
    x, blocks = model.embedding(ids), model.decoder_blocks()
    real, visible = cache.real(length), cache.visible(length)
    if real is not None:  # zeros stay zeros in every layer, also through smeared keys
        x, ids = x * real.unsqueeze(-1), ids.masked_fill(~real, -1)
    axes, rotations = (Axis(length, start), Axis(start + length)), cache.rotations
    places = NewPlaces(tables(blocks[0].attention.positions, *axes, x, rotations), visible)
    steps = steps_for(model, x, visible)
    for layer, (block, kept) in enumerate(zip(blocks, cache.layers, strict=True), start=1):
        if model.ngrams is not None and layer == model.config.ngram_layer:
            known = preceding(torch.cat((cache.recent, ids), 1), model.config.ngram_longest)
            x = cast(NgramTable, model.ngrams).added(x, known[:, -length:])
        x, cca = steps.attend(block, x, kept, places), block.cca
        if layer in model.config.cca_layers[:1]:
            _keep_activations(model, x, cache, rows, neighbours)
            if cca is not None and cache.held is not None:
                axes = cca.axis(length, offset), cache.held.chunks.axis
                across = tables(cca.attention.positions, *axes, x, rotations)
                places = places._replace(across=across)
        if cca is not None and cache.held is not None:
            update = cca.gated(steps.read(cca, block.cca_norm(x), cache.held, layer, places))
            readable = cache.held.readable
            x = x + (update if readable is None else update.masked_fill(~readable, 0.0))
        x = steps.feed_forward(block, x)
    hidden, held = model.norm(x), cache.held
    logits = model.logits(hidden)
    if model.pointer is not None and held is not None and held.pointer_keys is not None:
        context = torch.cat((cache.recent, ids), dim=1)
        copy = proposal(model.pointer, hidden, held.pointer_keys, context, held.chunks)
        logits = mixture_log_probs(logits, copy)
    cache.remember(ids)
    return logits


def _keep_activations(
    model: Retro, x: Tensor, cache: Cache, rows: list[int], neighbours: Tensor | None
) -> None:
    """Appends x [B, L, D] to the latest activations; at a search, `rows` switch to `neighbours`."""
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
            held = held.merged(some, batch, cache.held)
        elif some is not None and cache.held is not None:
            held = cache.held.without(some)
        cache.held = held
    cache.activations = torch.cat((cache.activations, x), dim=1)[:, -size:]


def _hold(
    model: Retro, retrieving: Tensor, neighbours: Tensor, known: Tensor | None
) -> HeldNeighbours | None:
    """Encodes and projects neighbours [B, K, R] for all layers.

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
    encoded = model.encode(retrieving.unsqueeze(1), chunks)
    cca = {
        layer: held_keys(block.cca, encoded, chunks)
        for layer, block in enumerate(model.decoder_blocks(), start=1)
        if block.cca is not None
    }
    return HeldNeighbours(
        chunks, cca, None if model.pointer is None else model.pointer.project_keys(encoded)
    )

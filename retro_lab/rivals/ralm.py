"""In-context RALM: puts retrieved text before the context of an unchanged language model.

Every s tokens the database is searched with the last q tokens of the document. The best chunk and
its continuation replace the oldest context, and the next s tokens are scored (Ram et al. 2023,
"In-Context Retrieval-Augmented Language Models"). The window keeps its length, and the model
attends to the passage as if it were part of the same document.

Shapes: Q blocks of s tokens, P tokens of a passage, N tokens of a window.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.evaluation.compressors.outcome import (
    Outcome,
    Tuning,
    bits_per_byte,
    chunk_sums,
    lowest,
)
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.retrieval.base import NO_TOKEN, Neighbours, Queries, Retriever
from retro_lab.retrieval.filters.exclusion import search_filled
from retro_lab.run.model import LanguageModel
from retro_lab.store import track

from .blocks import IGNORED, Block, blocks_of
from .places import Places, checked, next_tokens


class Setting(NamedTuple):
    """Retrieval settings: tokens of the query, and continuation chunks of the passage."""

    query_length: int
    continuation: int


def retrieve(
    retriever: Retriever, subset: Subset, blocks: list[Block], query_length: int
) -> Neighbours:
    """[Q, 1] best chunk of another document for each block, by the tokens before the block."""
    queries = np.full((len(blocks), query_length), NO_TOKEN, np.int32)
    for row, block in enumerate(blocks):
        first = max(1, block.start - query_length)  # position 0 is the boundary
        tokens = subset.tokens_of(block.document)[first : block.start]
        queries[row, : len(tokens)] = tokens
    document = np.array([block.document for block in blocks], np.int64)
    unknown = np.full(len(blocks), -1, np.int64)
    asked = Queries(queries, None, document, unknown)
    return search_filled(retriever, asked, 1, np.asarray(subset.store.document))


def passages(subset: Subset, chunks: NDArray[np.int64], continuation: int) -> list[NDArray]:
    """Tokens of each chunk and its continuation, without boundary and padding tokens."""
    store = subset.store
    values = store.values(chunks, continuation)
    text = (values != store.pad_id) & (values != store.boundary_id)
    return [row[keep] for row, keep in zip(values, text, strict=True)]


def block_nats(
    model: LanguageModel,
    subset: Subset,
    blocks: list[Block],
    found: list[NDArray],
    batch_size: int,
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Number of each block and nats of its tokens, ordered by input length.

    Args:
        found: passage of each block; with an empty passage the baseline's context is kept.
    """
    device = next(model.parameters()).device
    inputs = [
        _input_tokens(subset, block, passage) for block, passage in zip(blocks, found, strict=True)
    ]
    order = sorted(range(len(blocks)), key=lambda i: len(inputs[i]))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        width = max(len(inputs[i]) for i in part)
        ids = np.full((len(part), width), subset.store.pad_id)
        targets = np.full((len(part), width), IGNORED)
        for row, i in enumerate(part):
            block, length = blocks[i], len(inputs[i])
            scored = subset.tokens_of(block.document)[block.start : block.stop]
            ids[row, :length] = inputs[i]
            targets[row, length - len(scored) : length] = scored
        read = torch.from_numpy(ids).to(device)
        wanted = torch.from_numpy(targets).to(device)
        with torch.inference_mode():
            nats = model.token_nats(read, wanted, None, torch.zeros_like(read))
        rows = nats.double().cpu().numpy()
        for row, i in enumerate(part):
            yield i, rows[row][targets[row] != IGNORED]


def _input_tokens(subset: Subset, block: Block, passage: NDArray) -> NDArray:
    """Input tokens of a block: the passage, then as much context as fits in the window."""
    last = block.stop - 1  # the input ends before `last`, the position predicted last
    first = max(block.context, last - (subset.chunking.sequence_length - len(passage)))
    return np.concatenate([passage, subset.tokens_of(block.document)[first:last]])


def nats_by_token(
    model: LanguageModel,
    retriever: Retriever,
    subset: Subset,
    stride: int,
    setting: Setting,
    batch_size: int,
    what: str,
) -> tuple[NDArray[np.float64], int]:
    """[T] nats of the subset's tokens under one setting, and the number of input tokens."""
    blocks = blocks_of(subset, stride)
    found = _passages_of(retriever, subset, blocks, setting)
    scored: list[NDArray[np.float64]] = [np.empty(0)] * len(blocks)
    with track(len(blocks), what, "blocks") as advance:
        for i, nats in block_nats(model, subset, blocks, found, batch_size):
            scored[i] = nats
            advance(1)
    read = sum(len(_input_tokens(subset, *pair)) for pair in zip(blocks, found, strict=True))
    return np.concatenate(scored), read


def _passages_of(
    retriever: Retriever, subset: Subset, blocks: list[Block], setting: Setting
) -> list[NDArray]:
    """The passage of each block."""
    ids = retrieve(retriever, subset, blocks, setting.query_length).ids[:, 0]
    return passages(subset, ids, setting.continuation)


def tune(
    model: LanguageModel,
    retriever: Retriever,
    subset: Subset,
    stride: int,
    query_lengths: list[int],
    continuations: list[int],
    batch_size: int,
) -> Tuning:
    """The best query length and continuation for a stride, by bits per byte on `subset`."""
    start = time.perf_counter()
    tried = []
    for setting in itertools.starmap(Setting, itertools.product(query_lengths, continuations)):
        what = f"tuning RALM, stride {stride}"
        nats, _ = nats_by_token(model, retriever, subset, stride, setting, batch_size, what)
        tried.append((setting._asdict(), bits_per_byte(subset, chunk_sums(subset, nats))))
    return lowest(tried, start)


def score(
    model: LanguageModel,
    retriever: Retriever,
    subset: Subset,
    stride: int,
    tuning: Tuning,
    batch_size: int,
) -> Outcome:
    """The score of RALM with the tuned settings on every token of `subset`."""
    start = time.perf_counter()
    what = f"scoring RALM, stride {stride}"
    setting = Setting(**tuning.chosen)
    nats, read = nats_by_token(model, retriever, subset, stride, setting, batch_size, what)
    outcome = Outcome.by_token(
        subset,
        nats,
        tuning=tuning,
        seconds=round(time.perf_counter() - start, 1),
        parameters=sum(p.numel() for p in model.parameters()),
        facts={
            "stride": stride,
            "retrievals": len(blocks_of(subset, stride)),
            "tokens_read": read,
            "tokens_scored": int(subset.tokens.sum()),
        },
    )
    places = Places.drawn(subset, stride)
    return checked(outcome, places, next_tokens(model, _texts(retriever, places, setting)))


def _texts(retriever: Retriever, places: Places, setting: Setting) -> list[NDArray]:
    """[Q] what the model reads before each place: the passage, then the context that fits."""
    found = _passages_of(retriever, places.subset, places.blocks, setting)
    read = []
    for block, passage in zip(places.blocks, found, strict=True):
        tokens = _input_tokens(places.subset, block, passage)
        read.append(tokens[: len(tokens) - (block.stop - 1 - block.start)])
    return read

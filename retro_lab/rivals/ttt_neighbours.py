"""Test-time training on neighbours: a few steps on what the text before a chunk finds.

Before each chunk the run's retriever searches the database with the chunk before it. The baseline
takes a step on each neighbour with its continuation, nearest first, scores the chunk, and gets its
trained weights back (Hardt and Sun 2023, "Test-Time Training on Nearest Neighbors for Large
Language Models"). Number of neighbours and rate are tuned on the validation split.

Shapes: Q chunks, K neighbours, M tokens of a chunk, T scored tokens of a subset in corpus order.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro_lab.evaluation.compressors.outcome import (
    Outcome,
    Tuning,
    bits_per_byte,
    chunk_sums,
    lowest,
)
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.retrieval.base import NO_CHUNK
from retro_lab.retrieval.new_text import NewTextSearch
from retro_lab.run.model import LanguageModel
from retro_lab.store import track

from .blocks import Block, blocks_of
from .fast_weights import FastWeights, check_finite, fast_weights, gradient_scales, text_of
from .places import Places, checked, next_token
from .ralm import passages
from .report import Entry
from .rival_session import RivalSession, num_parameters

_TUNING_SHARE = 4
"""A setting costs tens of passes, so it is tried on this part of the other rivals' tuning text."""


class Setting(NamedTuple):
    """Number of neighbours, and rate of the step on each."""

    neighbours: int
    rate: float


class Taught(NamedTuple):
    """Scores, and what they cost.

    Attributes:
        nats: float64 [T]; infinite if the steps diverge.
        steps: on neighbours.
        tokens: of these neighbours.
    """

    nats: NDArray[np.float64]
    steps: int
    tokens: int


def neighbours_of(search: NewTextSearch, subset: Subset, blocks: list[Block]) -> NDArray[np.int64]:
    """[Q, K] chunks of other documents, found by the M tokens before each block; -1 is none."""
    store = subset.store
    queries, asking = [], []
    for row, block in enumerate(blocks):
        first = max(1, block.start - store.chunk_size)  # position 0 is the boundary
        if first < block.start:
            queries.append(subset.tokens_of(block.document)[first : block.start].tolist())
            asking.append(row)
    ids = np.full((len(blocks), search.read.k), NO_CHUNK, np.int64)
    if asking:
        own = [subset.first_chunk(blocks[row].document) for row in asking]
        document = np.asarray(store.identity)[own].astype(np.int64)
        ids[asking] = search.found(queries, document).ids
    return ids


def nats_by_token(
    model: LanguageModel,
    scales: list[Tensor],
    subset: Subset,
    found: list[list[NDArray[np.int64]]],
    setting: Setting,
) -> Taught:
    """Scores of the subset's tokens under one setting.

    Args:
        scales: from `gradient_scales`.
        found: by block, tokens of its neighbours, nearest first, from `texts_of`.
    """
    blocks = blocks_of(subset, subset.store.chunk_size)
    scored, steps, tokens = [], 0, 0
    with (
        fast_weights(model, scales) as fast,
        track(len(blocks), f"training on {setting.neighbours} neighbours", "chunks") as advance,
    ):
        for block, texts in zip(blocks, found, strict=True):
            learned = _learn(fast, texts, setting)
            steps, tokens = steps + len(learned), tokens + sum(map(len, learned))
            with torch.no_grad():
                nats = fast.nats(text_of(subset, block), block.stop - block.start)
            scored.append(nats.double().cpu().numpy())
            if not np.isfinite(scored[-1]).all():
                return Taught(np.full(int(subset.tokens.sum()), np.inf), steps, tokens)
            advance(1)
    return Taught(np.concatenate(scored), steps, tokens)


def _learn(
    fast: FastWeights, texts: list[NDArray[np.int64]], setting: Setting
) -> list[NDArray[np.int64]]:
    """From the trained weights, a step on each neighbour that the setting reads: those read."""
    fast.reset()
    learned = texts[: setting.neighbours if setting.rate else 0]
    for text in learned:
        fast.step(fast.nats(text, len(text) - 1), setting.rate)
    return learned


def log_probs(
    model: LanguageModel,
    scales: list[Tensor],
    places: Places,
    found: list[list[NDArray[np.int64]]],
    setting: Setting,
) -> NDArray[np.float64]:
    """[Q, V] log-probabilities at places, with the weights that their neighbours leave.

    Args:
        found: as for `nats_by_token`, of all blocks of the subset.
    """
    blocks = blocks_of(places.subset, places.subset.store.chunk_size)
    by_block, rows = dict(zip(blocks, found, strict=True)), []
    with fast_weights(model, scales) as fast:
        for place, context in zip(places.blocks, places.contexts, strict=True):
            _learn(fast, by_block[place], setting)
            rows.append(next_token(model, context))
    return np.stack(rows)


def texts_of(
    search: NewTextSearch, subset: Subset, continuation: int
) -> list[list[NDArray[np.int64]]]:
    """By block of a chunk, the tokens of its neighbours and their continuations, nearest first."""
    blocks = blocks_of(subset, subset.store.chunk_size)
    rows = neighbours_of(search, subset, blocks)
    by_row = (passages(subset, row[row != NO_CHUNK], continuation) for row in rows)
    return [[text.astype(np.int64) for text in texts if len(text) > 1] for texts in by_row]


def tune(
    model: LanguageModel,
    scales: list[Tensor],
    subset: Subset,
    found: list[list[NDArray[np.int64]]],
    settings: list[Setting],
) -> Tuning:
    """The best setting by bits per byte on `subset`."""
    start = time.perf_counter()
    tried = []
    for setting in settings:
        nats = nats_by_token(model, scales, subset, found, setting).nats
        bits = bits_per_byte(subset, chunk_sums(subset, nats))
        tried.append((setting._asdict(), bits))
    return lowest(tried, start)


def entries(session: RivalSession) -> list[Entry]:
    """Test-time training of the baseline, on the sampled documents."""
    asked, text, config = session.asked.ttt, session.text, session.config
    subset = text.subsample
    tuned_on = text.validation.drawn(text.seed, tokens=session.asked.tuning_tokens // _TUNING_SHARE)
    continuation = config.chunking.continuation_chunks

    def score() -> Outcome:
        start = time.perf_counter()
        model = session.model
        search = session.graph.search(config.retriever, session.retro, max(asked.neighbours))
        scales = gradient_scales(model, text.training)
        settings = list(itertools.starmap(Setting, _grid(asked.neighbours, asked.rates)))
        tuning = tune(model, scales, tuned_on, texts_of(search, tuned_on, continuation), settings)
        found = texts_of(search, subset, continuation)
        taught = nats_by_token(model, scales, subset, found, Setting(**tuning.chosen))
        check_finite(taught.nats, "eval.rivals.ttt.rates")
        blocks = blocks_of(subset, subset.store.chunk_size)
        outcome = Outcome.by_token(
            subset,
            taught.nats,
            tuning=tuning,
            seconds=round(time.perf_counter() - start, 1),
            parameters=num_parameters(model),
            datastore_bytes=session.index_bytes(config.retriever),
            facts={
                "steps": taught.steps,
                "tokens_learned": taught.tokens,
                "tokens_read": sum(block.stop - 1 - block.context for block in blocks),
                "tokens_scored": int(subset.tokens.sum()),
                "tuned_on_documents": len(tuned_on.documents),
            },
        )
        places = Places.drawn(subset, subset.store.chunk_size)
        rows = log_probs(model, scales, places, found, Setting(**tuning.chosen))
        return checked(outcome, places, rows)

    name = "ttt_neighbours"
    settings = asdict(asked) | {"continuation": continuation, "retriever": repr(config.retriever)}
    outcome = session.kept(name, subset, settings, session.weights, score, tuned_on)
    return [Entry(name, "TTT neighbours", subset, outcome)]


def _grid(neighbours: list[int], rates: list[float]) -> list[tuple[int, float]]:
    """All pairs, with the rate of 0 once, since it reads no neighbour."""
    pairs = list(itertools.product(neighbours, rates))
    return [(k, rate) for k, rate in pairs if rate or k == neighbours[0]]

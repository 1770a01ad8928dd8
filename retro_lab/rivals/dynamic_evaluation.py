"""Dynamic evaluation: the baseline learns from each segment of a document once it is scored.

Each segment is scored with the weights that the document's earlier segments left, and then takes
one step on them. Weights are put back where a document begins, so nothing but the own document is
learned from: like a cache, it controls for what a document tells about itself. Krause et al. 2018,
"Dynamic Evaluation of Neural Sequence Models"; 2019, "Dynamic Evaluation of Transformer Language
Models". The rate is tuned on the validation split.

Shapes: T scored tokens of a subset in corpus order.
"""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
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
from retro_lab.run.model import LanguageModel
from retro_lab.store import track

from .blocks import blocks_of
from .fast_weights import check_finite, fast_weights, gradient_scales, text_of
from .places import Places, checked, next_token
from .report import Entry
from .rival_session import RivalSession, num_parameters


def nats_by_token(
    model: LanguageModel, scales: list[Tensor], subset: Subset, segment: int, rate: float
) -> NDArray[np.float64]:
    """[T] nats of the subset's tokens; infinite if the steps diverge.

    Args:
        scales: from `gradient_scales`.
        segment: tokens scored before each step, a divisor of the evaluation's window and stride.
        rate: of a step; 0 is the baseline itself.
    """
    blocks, found = blocks_of(subset, segment), []
    with (
        fast_weights(model, scales) as fast,
        track(len(blocks), f"dynamic evaluation at {rate:g}", "segments") as advance,
    ):
        for block in blocks:
            if block.start == 1:
                fast.reset()
            nats = fast.nats(text_of(subset, block), block.stop - block.start)
            found.append(nats.detach().double().cpu().numpy())
            if not np.isfinite(found[-1]).all():
                return np.full(int(subset.tokens.sum()), np.inf)
            if rate:
                fast.step(nats, rate)
            advance(1)
    return np.concatenate(found)


def tune(
    model: LanguageModel, scales: list[Tensor], subset: Subset, segment: int, rates: list[float]
) -> Tuning:
    """The best rate by bits per byte on `subset`."""
    start = time.perf_counter()
    tried = []
    for rate in rates:
        nats = nats_by_token(model, scales, subset, segment, rate)
        tried.append(({"rate": rate}, bits_per_byte(subset, chunk_sums(subset, nats))))
    return lowest(tried, start)


def log_probs(
    model: LanguageModel, scales: list[Tensor], places: Places, segment: int, rate: float
) -> NDArray[np.float64]:
    """[Q, V] log-probabilities at places, with the weights that the text before them leaves."""
    rows = []
    with fast_weights(model, scales) as fast:
        for place, context in zip(places.blocks, places.contexts, strict=True):
            fast.reset()
            own = places.subset.only(np.array([place.document]))
            for block in blocks_of(own, segment):
                if not rate or block.start >= place.start:
                    break
                fast.step(fast.nats(text_of(own, block), block.stop - block.start), rate)
            rows.append(next_token(model, context))
    return np.stack(rows)


def entries(session: RivalSession) -> list[Entry]:
    """Dynamic evaluation of the baseline."""
    asked, text, model = session.asked.dynamic, session.text, session.model

    def score() -> Outcome:
        start = time.perf_counter()
        scales = gradient_scales(model, text.training)
        tuning = tune(model, scales, text.tuning, asked.segment, asked.rates)
        nats = nats_by_token(model, scales, text.test, asked.segment, tuning.chosen["rate"])
        check_finite(nats, "eval.rivals.dynamic.rates")
        blocks = blocks_of(text.test, asked.segment)
        outcome = Outcome.by_token(
            text.test,
            nats,
            tuning=tuning,
            seconds=round(time.perf_counter() - start, 1),
            parameters=num_parameters(model),
            facts={
                "steps": len(blocks),
                "tokens_read": sum(block.stop - 1 - block.context for block in blocks),
                "tokens_scored": int(text.test.tokens.sum()),
            },
        )
        places = Places.drawn(text.test, asked.segment)
        rows = log_probs(model, scales, places, asked.segment, tuning.chosen["rate"])
        return checked(outcome, places, rows)

    name = "dynamic_evaluation"
    outcome = session.kept(name, text.test, asdict(asked), session.weights, score)
    return [Entry(name, "dynamic eval", text.test, outcome)]

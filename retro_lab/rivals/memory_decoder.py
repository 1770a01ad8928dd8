"""A Memory-Decoder-like rival: a small decoder that imitates kNN-LM, mixed with the baseline.

p(y) = w * p_dec(y) + (1 - w) * p(y). The decoder learned from the neighbours that kNN-LM finds for
the training text in other documents (Cao et al. 2025, "Memory Decoder: A Pretrained, Plug-and-Play
Memory for Large Language Models"), so that no datastore is searched while text is scored. Two
controls are trained and tuned alike: one on the same text without neighbours, one on neighbours of
other tokens. Learning rate and w are tuned on the validation split.

Shapes: T scored tokens of a subset in corpus order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.evaluation.compressors.outcome import (
    Outcome,
    Tuning,
    bits_per_byte,
    chunk_sums,
    lowest,
)
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.nn import Retro
from retro_lab.store import Stage

from . import knn_lm
from .imitation import (
    Lesson,
    Targets,
    build_targets,
    imitate,
    sampled_windows,
    shortened,
)
from .knn_lm import mixed_nats
from .places import Places, checked, mixed, next_tokens
from .report import Entry
from .rival_session import RivalSession, num_parameters
from .states import token_nats

VERSION = 1
STAGE = "knn_targets"


class Variant(NamedTuple):
    """The rival itself, or a control.

    Attributes:
        name, label: of the entry.
        imitates: whether neighbours are learned from at all.
        shuffled: whether they are those of other tokens.
    """

    name: str
    label: str
    imitates: bool = True
    shuffled: bool = False


VARIANTS = (
    Variant("memory_decoder", "mem decoder"),
    Variant("memory_decoder_text", "- text only", imitates=False),
    Variant("memory_decoder_shuffled", "- shuffled", shuffled=True),
)


class Trained(NamedTuple):
    """A trained decoder.

    Attributes:
        rate_factor: of its training.
        decoder: the model.
        tuning_nats: float64 [T], of the decoder alone on the tuning text.
    """

    rate_factor: float
    decoder: Retro
    tuning_nats: NDArray[np.float64]


class Baseline(NamedTuple):
    """What the model scores that every variant is mixed with.

    Attributes:
        tuning_nats: float64 [T], on the tuning text.
        test_nats: float64 [T], on the scored text.
        seconds: that the scoring took.
    """

    tuning_nats: NDArray[np.float64]
    test_nats: NDArray[np.float64]
    seconds: float

    @classmethod
    def scored(cls, session: RivalSession) -> Baseline:
        """Scores the run's baseline."""
        start, text = time.perf_counter(), session.text
        tuning, test = (
            token_nats(session.retro_baseline, each, session.batch)
            for each in (text.tuning, text.test)
        )
        return cls(tuning, test, time.perf_counter() - start)


def entries(session: RivalSession) -> list[Entry]:
    """The decoder that imitates the run's tuned kNN-LM, and its two controls."""
    [teacher] = knn_lm.entries(session)
    chosen = {name: teacher.outcome.tuning.chosen[name] for name in ("neighbours", "temperature")}
    baseline = cache(partial(Baseline.scored, session))  # not needed if all are stored
    return [_entry(session, variant, chosen, baseline) for variant in VARIANTS]


def _entry(
    session: RivalSession,
    variant: Variant,
    teacher: dict[str, Any],
    baseline: Callable[[], Baseline],
) -> Entry:
    asked, config = session.asked.memory_decoder, session.config
    settings = asdict(asked) | {
        "teacher": teacher,
        "knn_lm": {name: getattr(session.asked.knn_lm, name) for name in ("factory", "nprobe")},
        "optim": repr(config.optim),
        "seed": config.seed,
    }
    text, weights = session.text, session.weights
    outcome = session.kept(
        variant.name,
        text.test,
        settings,
        weights,
        lambda: _outcome(session, variant, teacher, baseline()),
    )
    return Entry(variant.name, variant.label, text.test, outcome)


def _outcome(
    session: RivalSession, variant: Variant, teacher: dict[str, Any], baseline: Baseline
) -> Outcome:
    start = time.perf_counter()
    text, model, batch = session.text, session.retro_baseline, session.batch
    targets, building = _targets(session, teacher)
    if variant.shuffled:
        targets = targets.shuffled(session.config.seed)
    trained = _trained(session, variant, targets)
    weights = session.asked.memory_decoder.weights
    tuning = tune(text.tuning, baseline.tuning_nats, trained, weights)
    best = next(each for each in trained if each.rate_factor == tuning.chosen["rate_factor"])
    decoder_nats = token_nats(best.decoder, text.test, batch)
    weight = tuning.chosen["weight"]
    outcome = Outcome.by_token(
        text.test,
        mixed_nats(baseline.test_nats, -decoder_nats, weight),
        tuning=tuning,
        seconds=round(building + baseline.seconds + time.perf_counter() - start, 1),
        parameters=num_parameters(model) + num_parameters(best.decoder),
        facts={
            "decoder_parameters": num_parameters(best.decoder),
            "teacher": teacher,
            "tokens_imitated": len(targets.tokens) if variant.imitates else 0,
            "decoder_alone": bits_per_byte(text.test, chunk_sums(text.test, decoder_nats)),
        },
    )
    places = Places.drawn(text.test, text.test.chunking.chunk_size)
    asked, imitated = (next_tokens(each, places.contexts) for each in (model, best.decoder))
    return checked(outcome, places, mixed(asked, imitated, weight))


def tune(
    subset: Subset, own: NDArray[np.float64], trained: list[Trained], weights: list[float]
) -> Tuning:
    """The best learning rate and share of the decoder by bits per byte on `subset`.

    Args:
        own: [T] nats of the baseline.
    """
    start, tried = time.perf_counter(), []
    for each in trained:
        for weight in weights:
            nats = mixed_nats(own, -each.tuning_nats, weight)
            setting = {"rate_factor": each.rate_factor, "weight": weight}
            tried.append((setting, bits_per_byte(subset, chunk_sums(subset, nats))))
    return lowest(tried, start)


def _trained(session: RivalSession, variant: Variant, targets: Targets) -> list[Trained]:
    """A decoder for each learning rate."""
    asked, config, text = session.asked.memory_decoder, session.config, session.text
    data, _ = text.training.windows()
    windows = sampled_windows(text.training, asked.tokens, config.seed)
    found = []
    for factor in asked.rate_factors:
        lesson = Lesson(
            asked.imitation if variant.imitates else 0.0,
            asked.epochs,
            config.optim,
            config.optim.lr * factor,
            config.seed,
        )
        decoder = shortened(session.retro_baseline, asked.layers)
        decoder = imitate(decoder, targets, data, windows, lesson)
        found.append(Trained(factor, decoder, token_nats(decoder, text.tuning, session.batch)))
    return found


def _targets(session: RivalSession, teacher: dict[str, Any]) -> tuple[Targets, float]:
    """What the neighbours say of the sampled training text, and the seconds that it took."""
    asked, text = session.asked.memory_decoder, session.text
    opened = knn_lm.open_datastore(session)
    data, _ = text.training.windows()
    windows = sampled_windows(text.training, asked.tokens, session.config.seed)
    nprobe = session.asked.knn_lm.nprobe
    fields = teacher | {"windows": windows.tolist(), "nprobe": nprobe}
    stage = Stage(STAGE, VERSION, fields, dict(opened.stages))
    built = session.graph.store.build(
        stage,
        lambda workspace: build_targets(
            session.retro_baseline, opened.datastore, data, windows, teacher, workspace
        ),
    )
    return Targets.of(built), opened.seconds + built.manifest["seconds"]

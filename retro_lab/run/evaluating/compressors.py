"""Bits per byte of two compressors on the scored split, shown beside every verdict.

They are the rivals `xz` and `ngram` (`evaluation/compressors/`) and take seconds.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import asdict

from retro_lab.config.schema import Config, NgramConfig
from retro_lab.evaluation.compressors import ngram, xz
from retro_lab.evaluation.compressors.outcome import Outcome, stored_or_computed
from retro_lab.evaluation.compressors.subset import Subsets

from ..data.graph import DataGraph

LOG = logging.getLogger("retro_lab")
MAX_BYTES = 64 * 2**20
"""Limit on training and scored text together; longer text would take minutes."""


def compressor_scores(config: Config, graph: DataGraph, stride: int) -> dict[str, float] | None:
    """Bits per byte of `xz` and the byte `ngram`, trained on the run's own training text.

    Args:
        stride: of the evaluation; it determines the scored tokens.

    Returns:
        None if the text is longer than `MAX_BYTES`, or there is no validation text to tune on.
    """
    split = config.eval.split
    corpus, chunks = graph.own.corpus.data, graph.own.chunks.data
    size = corpus.num_bytes("train") + corpus.num_bytes(split)
    if size > MAX_BYTES or not corpus.num_bytes("validation"):
        LOG.info("xz and the byte n-gram are left out: eval=rivals runs them on any text")
        return None
    rivals = config.eval.rivals
    text = Subsets.of(chunks, split, config.chunking, stride, config.eval.seed, rivals)
    outcomes = {
        "xz": xz_outcome(graph, text),
        "ngram": ngram_outcome(graph, text, rivals.ngram),
    }
    scored_bytes = int(text.test.bytes.sum())
    return {
        name: math.fsum(outcome.document_nats) / math.log(2) / scored_bytes
        for name, outcome in outcomes.items()
    }


def xz_outcome(graph: DataGraph, text: Subsets) -> Outcome:
    """Score of `xz` on the scored documents after the training text, cached in the store."""

    def score() -> Outcome:
        return xz.score(graph.own.corpus.data, text.training, text.test)

    return stored_or_computed(
        graph.store, "xz", graph.own.chunks.stage, text.test, text.tuning, {}, {}, score
    )


def ngram_outcome(graph: DataGraph, text: Subsets, config: NgramConfig) -> Outcome:
    """Score of the tuned byte n-gram of training text and document so far, cached in the store."""

    def score() -> Outcome:
        corpus = graph.own.corpus.data
        tuning = ngram.tune(corpus, text.training, text.tuning, config)
        outcome = ngram.score(corpus, text.training, text.test, tuning)
        return dataclasses.replace(outcome, seconds=round(outcome.seconds + tuning.seconds, 1))

    return stored_or_computed(
        graph.store,
        "ngram",
        graph.own.chunks.stage,
        text.test,
        text.tuning,
        asdict(config),
        {},
        score,
    )

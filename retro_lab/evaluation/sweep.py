"""Many runs side by side: each result as one row, and what tells the rows apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from retro_lab.config.databases import in_words
from retro_lab.config.schema import DatabaseConfig

from .leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference
from .metrics import Score
from .results import Results

# Of a configuration, what does not tell two results apart but for the seed, or at all.
_ASIDE = ("seed", "logger", "eval", "store", "prepare", "runs_dir", "resume", "trainer")
TRAINING = in_words(DatabaseConfig())
AXES = ("retriever", "database", "model", "recipe", "chunk_size", "cca", "seed")


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep, on all chunks of its scored split.

    Attributes:
        k: neighbours a chunk reads; 0 for a run without retrieval.
        score: of RETRO[ON], or of the run itself when it has no retrieval.
        baseline: of the shared baseline; None when the run has none.
        difference: on minus baseline, all chunks.
        leak_free: on minus baseline, chunks with r(C) <= 0.125.
        settings: the run's configuration but for its seed, and how it was evaluated: equal for
            runs that are the same but for the seed.
        seconds: of its training; None if it is not known.
        flops: of its training; None if it is not known.
        database: what was searched, in words; none for a run without retrieval.
    """

    run_key: str
    retriever: str
    model: str
    recipe: str
    chunk_size: int
    cca: str
    seed: int
    k: int
    score: Score
    baseline: Score | None
    difference: Difference | None
    leak_free: Difference | None
    settings: str | None = None
    seconds: float | None = None
    flops: float | None = None
    database: str = TRAINING


def sweep_row(results: Results) -> SweepRow:
    """The row of one run's results."""
    config = results.config
    scores = results.metrics[results.evaluation.split]
    retrieves, searched = "on" in scores, results.evaluation.database
    return SweepRow(
        run_key=results.run_key,
        retriever=config["retriever"]["name"],
        model=config["model"]["name"],
        recipe=config["recipe"]["name"] if retrieves else "none",
        chunk_size=config["chunking"]["chunk_size"],
        cca=_cca(config["cca"]) if retrieves else "none",
        seed=config["seed"],
        k=scored_k(config) if retrieves else 0,
        score=scores["on" if retrieves else "baseline"],
        baseline=scores.get("baseline"),
        difference=results.leakage.difference("on", "baseline", UNFILTERED),
        leak_free=results.leakage.difference("on", "baseline", LEAK_FREE_ALPHA),
        settings=_settings(results),
        seconds=results.timing.get("training"),
        database=(searched.name if searched else TRAINING) if retrieves else "none",
    )


def _settings(results: Results) -> str:
    own = {name: value for name, value in results.config.items() if name not in _ASIDE}
    measured = [results.evaluation.split, results.evaluation.stride, results.leakage.reference]
    return json.dumps([own, measured], sort_keys=True)


def scored_k(config: dict[str, Any]) -> int:
    """Neighbours that a scored chunk read, from a run's configuration as in results.json."""
    return config.get("eval", {}).get("k") or config["neighbours"]["k"]


def _cca(config: dict[str, Any]) -> str:
    layers = config.get("layers")
    return "layers " + ",".join(map(str, layers)) if layers else config["placement"]


def in_sweep_order(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """Rows without retrieval first, then by every axis, k last."""
    return sorted(rows, key=lambda row: (row.k > 0, *(getattr(row, a) for a in AXES), row.k))


def varying(rows: Sequence[SweepRow]) -> list[str]:
    """Axes on which the runs with retrieval differ; the retriever is always among them."""
    retrieving = [row for row in rows if row.k] or rows
    differing = [a for a in AXES if len({getattr(row, a) for row in retrieving}) > 1]
    return ["retriever", *(axis for axis in differing if axis != "retriever")]

"""Many runs side by side: each result as one row, and what tells the rows apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retro_lab.config.databases import in_words
from retro_lab.config.schema import DatabaseConfig
from retro_lab.config.serialise import flatten

from .leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference
from .metrics import Score
from .reference_words import in_words as reference_in_words
from .results import Results, SearchedDatabase

# Of a configuration, what does not tell two results apart but for the seed, or at all; what an
# evaluation and a trainer change of the figures is added in `_settings`.
_ASIDE = ("seed", "logger", "eval", "store", "prepare", "runs_dir", "resume", "trainer")
TRAINING = in_words(DatabaseConfig())
AXES = ("retriever", "database", "model", "recipe", "chunk_size", "cca", "other", "seed")
MEASURED = ("corpus", "split", "stride", "reference")
_OF_RETRIEVAL = ("retriever", "database", "recipe", "cca", "reference")


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep, on all chunks of its scored split.

    Attributes:
        k: neighbours a chunk reads; 0 for a run without retrieval.
        score: of RETRO[ON], or of the run itself when it has no retrieval.
        baseline: of the shared baseline; None when the run has none.
        difference: on minus baseline, all chunks.
        leak_free: on minus baseline, chunks with r(C) <= 0.125.
        corpus: what was scored, by its option and, if it has one, the last part of its path.
        split: the scored one.
        stride: tokens between windows.
        reference: of r(C), in words; none where overlap was not measured.
        settings: the run's configuration but for its seed, its data, and how it was evaluated:
            equal for runs that are the same but for the seed.
        seconds: of its training; None if it is not known.
        flops: of its training; None if it is not known.
        database: what was searched, in words, and what the run was trained with where that is
            another one; none for a run without retrieval.
        other: settings without a column, `optim.lr=0.006`; see `told_apart`.
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
    corpus: str
    split: str
    stride: int
    reference: str
    settings: str | None = None
    seconds: float | None = None
    flops: float | None = None
    database: str = TRAINING
    other: str = ""


def sweep_row(results: Results) -> SweepRow:
    """The row of one run's results."""
    config, measured = results.config, results.evaluation
    scores = results.metrics[measured.split]
    retrieves = "on" in scores
    k = scored_k(config) if retrieves else 0
    database = _database(measured.database) if retrieves else "none"
    reference = _reference(results)
    return SweepRow(
        run_key=results.run_key,
        retriever=config["retriever"]["name"],
        model=config["model"]["name"],
        recipe=config["recipe"]["name"] if retrieves else "none",
        chunk_size=config["chunking"]["chunk_size"],
        cca=_cca(config["cca"]) if retrieves else "none",
        seed=config["seed"],
        k=k,
        score=scores["on" if retrieves else "baseline"],
        baseline=scores.get("baseline"),
        difference=results.leakage.difference("on", "baseline", UNFILTERED),
        leak_free=results.leakage.difference("on", "baseline", LEAK_FREE_ALPHA),
        corpus=_corpus(config["corpus"]),
        split=measured.split,
        stride=measured.stride,
        reference=reference,
        settings=_settings(results, [k, database, reference]),
        seconds=results.timing.get("training"),
        database=database,
    )


def _settings(results: Results, read: list[Any]) -> str:
    """All that runs must share to be seeds of one group.

    Args:
        read: what a scored chunk read and was filtered by, the defaults of null filled in.
    """
    own = {name: value for name, value in results.config.items() if name not in _ASIDE}
    precision = results.config.get("trainer", {}).get("precision")
    windows = [results.evaluation.split, results.evaluation.window, results.evaluation.stride]
    return json.dumps([own, precision, results.lineage, windows, read], sort_keys=True)


def _corpus(corpus: dict[str, Any]) -> str:
    path = corpus.get("path")
    return f"{corpus['name']} {Path(path).name}" if path else corpus["name"]


def _database(searched: SearchedDatabase | None) -> str:
    if searched is None:
        return TRAINING
    if searched.name == searched.trained_with:
        return searched.name
    return f"{searched.name}; trained with {searched.trained_with}"


def _reference(results: Results) -> str:
    """In words; of own neighbours also how many were searched, since more find more."""
    reference = results.leakage.reference
    if reference is None:
        return "none"
    count = results.config.get("eval", {}).get("overlap_neighbours")
    counted = count is not None and reference.startswith("own_neighbours")
    return f"{count} {reference_in_words(reference)}" if counted else reference_in_words(reference)


def scored_k(config: dict[str, Any]) -> int:
    """Neighbours that a scored chunk read, from a run's configuration as in results.json."""
    return config.get("eval", {}).get("k") or config["neighbours"]["k"]


def _cca(config: dict[str, Any]) -> str:
    layers = config.get("layers")
    return "layers " + ",".join(map(str, layers)) if layers else config["placement"]


def told_apart(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """The rows; those that look alike but for their seed say in which settings they differ."""
    own = [flatten(json.loads(row.settings)[0]) if row.settings else {} for row in rows]
    alike: dict[tuple, list[dict[str, Any]]] = {}
    for row, settings in zip(rows, own, strict=True):
        alike.setdefault(_looks(row), []).append(settings)
    differing = {looks: _differing(group) for looks, group in alike.items()}

    def other(row: SweepRow, settings: dict[str, Any]) -> str:
        return " ".join(f"{key}={settings.get(key)}" for key in differing[_looks(row)])

    return [replace(row, other=other(row, one)) for row, one in zip(rows, own, strict=True)]


def _differing(group: Sequence[dict[str, Any]]) -> list[str]:
    """Keys whose value isn't the same everywhere."""
    first = group[0]
    return sorted({key for one in group for key in first | one if one.get(key) != first.get(key)})


def _looks(row: SweepRow) -> tuple:
    """What the tables show of a run, but for its seed and figures."""
    names = [name for name in (*AXES, *MEASURED, "k") if name not in ("other", "seed")]
    return tuple(getattr(row, name) for name in names)


def in_sweep_order(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """Rows without retrieval first, then by every axis, k, and how they were measured."""

    def key(row: SweepRow) -> tuple:
        axes, measured = ([getattr(row, name) for name in names] for names in (AXES, MEASURED))
        return row.k > 0, axes, row.k, measured

    return sorted(rows, key=key)


def varying(rows: Sequence[SweepRow]) -> list[str]:
    """What runs differ in, the retriever always; what only retrieval has, among runs with it."""
    retrieving = [row for row in rows if row.k] or rows

    def differs(name: str) -> bool:
        having = retrieving if name in _OF_RETRIEVAL else rows
        return name != "retriever" and len({getattr(row, name) for row in having}) > 1

    return ["retriever", *filter(differs, (*AXES, *MEASURED))]

"""Rows of a report on many runs, one for each result, and the columns in which they differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retro_lab.config.schema import DatabaseConfig
from retro_lab.config.serialise import flatten

from ..measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference
from ..measure.metrics import Score
from ..records.results import Results, SearchedDatabase
from .reference_words import in_words as reference_in_words

# Parts of the configuration that may differ between seeds of one group. `_settings` adds back the
# evaluation and trainer settings that change figures.
_NOT_SETTINGS = (
    *("seed", "logger", "eval", "store", "prepare", "runs_dir", "resume", "trainer"),
    "objective",
)
TRAINING = DatabaseConfig().in_words()
AXES = ("retriever", "database", "model", "recipe", "chunk_size", "cca", "seed")
MEASURED = ("corpus", "split", "stride", "reference")
OF_RETRIEVAL = ("retriever", "database", "recipe", "cca", "reference", "k")
SPLITS = ("validation", "test", "train")


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep, with figures over all chunks of its scored split.

    Attributes:
        k: neighbours a chunk reads; 0 for a run without retrieval.
        score: score of RETRO[ON], or of the run itself if it has no retrieval.
        baseline: score of the shared baseline, if the run has one.
        plain: score of the plain model that read as many training tokens; None in older results.
        difference: on minus plain, or minus baseline without a plain model; all chunks.
        leak_free: as `difference`, on chunks with r(C) <= 0.125.
        corpus: name of the scored corpus and the last part of its path, if it has one.
        split: the scored split.
        stride: tokens between windows.
        reference: reference of r(C), in words; "none" if overlap was not measured.
        settings: configuration without the seed, data and evaluation settings, as JSON; equal for
            runs that differ only in their seed.
        seconds: training time; None if unknown.
        flops: training FLOPs; None if unknown.
        database: the searched database, and the training database if it differs; "none" without
            retrieval.
        others: further settings, such as `optim.lr`, in which otherwise equal rows differ; see
            `with_differing_settings`.
        folder: the run's directory; None if unknown.
        memory: score with the memory, or else the own-document cache; None if neither was read.
        saving: `memory` minus `score`, all chunks.
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
    plain: Score | None = None
    others: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    memory: Score | None = None
    saving: Difference | None = None

    @property
    def against(self) -> str:
        """The condition that RETRO[ON] is compared with: plain, else baseline."""
        return "baseline" if self.plain is None else "plain"

    @property
    def compared(self) -> Score | None:
        """Score of the condition `against`."""
        return self.baseline if self.plain is None else self.plain

    @property
    def options(self) -> dict[str, Any]:
        """The run's configuration as values by dotted key; empty if unknown."""
        return flatten(json.loads(self.settings)[0]) if self.settings else {}


def sweep_row(results: Results) -> SweepRow:
    """The row of one run's results."""
    config, measured = results.config, results.evaluation
    scores = results.metrics[measured.split]
    retrieves = "on" in scores
    k = scored_k(config) if retrieves else 0
    database = _database(measured.database) if retrieves else "none"
    reference = _reference(results)
    own = "on" if retrieves else "baseline"
    against = "plain" if retrieves and "plain" in scores else "baseline"
    reading = "memory" if "memory" in scores else "cache"
    return SweepRow(
        run_key=results.run_key,
        retriever=config["retriever"]["name"],
        model=config["model"]["name"],
        recipe=config["recipe"]["name"] if retrieves else "none",
        chunk_size=config["chunking"]["chunk_size"],
        cca=_cca(config["cca"]) if retrieves else "none",
        seed=config["seed"],
        k=k,
        score=scores[own],
        baseline=scores.get("baseline"),
        difference=results.leakage.difference("on", against, UNFILTERED),
        leak_free=results.leakage.difference("on", against, LEAK_FREE_ALPHA),
        corpus=_corpus(config["corpus"]),
        split=measured.split,
        stride=measured.stride,
        reference=reference,
        settings=_settings(results, [k, database, reference]),
        seconds=results.timing.get("training"),
        database=database,
        plain=scores.get("plain") if retrieves else None,
        memory=scores.get(reading),
        saving=results.leakage.difference(reading, own, UNFILTERED),
    )


def _settings(results: Results, read: list[Any]) -> str:
    """JSON of everything that runs must share to be seeds of one group.

    Args:
        read: k, database and overlap reference, with defaults filled in.
    """
    own = {name: value for name, value in results.config.items() if name not in _NOT_SETTINGS}
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
    """The overlap reference in words, with the number of own neighbours compared."""
    reference = results.leakage.reference
    if reference is None:
        return "none"
    count = results.config.get("eval", {}).get("overlap_neighbours")
    counted = count is not None and reference.startswith("own_neighbours")
    return f"{count} {reference_in_words(reference)}" if counted else reference_in_words(reference)


def scored_k(config: dict[str, Any]) -> int:
    """Neighbours that a scored chunk reads, from the configuration in results.json."""
    return config.get("eval", {}).get("k") or config["neighbours"]["k"]


def _cca(config: dict[str, Any]) -> str:
    layers = config.get("layers")
    return "layers " + ",".join(map(str, layers)) if layers else config["placement"]


def with_differing_settings(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """The rows, with `others` set to the settings in which otherwise equal rows differ."""
    alike: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault(_shown_columns(row), []).append(row.options)
    keys = sorted({key for group in alike.values() for key in _differing(group)})
    return [replace(row, others={key: row.options.get(key) for key in keys}) for row in rows]


def _differing(group: Sequence[dict[str, Any]]) -> list[str]:
    """Keys whose values differ, without those that follow from their config option or class."""
    keys = {key for one in group for key in one if any(o.get(key) != one.get(key) for o in group)}
    named = {key for key in keys if key.endswith((".name", ".cls"))}
    return [key for key in keys if key in named or not any(_follows(group, key, n) for n in named)]


def _follows(group: Sequence[dict[str, Any]], key: str, name: str) -> bool:
    """Whether the value of `key` is determined by the option or class `name` of the same group."""
    if not key.startswith(name.rpartition(".")[0] + "."):
        return False
    return len({(str(one.get(name)), str(one.get(key))) for one in group}) == len(
        {str(one.get(name)) for one in group}
    )


def _shown_columns(row: SweepRow) -> tuple:
    """The columns that the tables show of a run, without seed and figures."""
    names = [name for name in (*AXES, *MEASURED, "k") if name != "seed"]
    return tuple(getattr(row, name) for name in names)


def in_sweep_order(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """Rows without retrieval first, then sorted by axes, other settings, k and measurement."""

    def key(row: SweepRow) -> tuple:
        axes, measured = ([getattr(row, name) for name in names] for names in (AXES, MEASURED))
        *told, seed = axes
        others = [_comparable(value) for value in row.others.values()]
        return row.k > 0, told, others, row.k, measured, seed

    return sorted(rows, key=key)


def _comparable(value: Any) -> tuple[bool, float, str]:
    """A sort key: numbers by value, then everything else by its text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return False, value, ""
    return True, 0.0, str(value)


def value_of(row: SweepRow, name: str) -> Any:
    """A row's value in a column or in `others`."""
    return row.others[name] if name in row.others else getattr(row, name)


def varying(rows: Sequence[SweepRow]) -> list[str]:
    """Columns in which the rows differ; `retriever` is added if at most the seed differs.

    Columns of retrieval are compared among runs with retrieval only.
    """
    retrieving = [row for row in rows if row.k] or rows

    def differs(name: str) -> bool:
        having = retrieving if name in OF_RETRIEVAL and name != "retriever" else rows
        return len({str(value_of(row, name)) for row in having}) > 1

    others = list(dict.fromkeys(key for row in rows for key in row.others))
    *axes, seed = AXES
    measured = [name for name in MEASURED if name != "split"]
    names = list(filter(differs, (*axes, *others, seed, *measured)))
    return names if set(names) - {"seed"} else ["retriever", *names]


def by_split(rows: Iterable[SweepRow]) -> dict[str, list[SweepRow]]:
    """Rows by scored split, validation first; figures of two splits are not comparable."""
    found: dict[str, list[SweepRow]] = {}
    for row in sorted(rows, key=lambda row: SPLITS.index(row.split)):
        found.setdefault(row.split, []).append(row)
    return found

"""results.json: the typed, versioned record of one evaluated run.

Fields are a public interface: new ones may be added, none is renamed, and readers ignore unknown
ones. Figures of `metrics` and `leakage` can be recomputed from chunks.parquet beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from retro_lab.config.errors import UserError

from ..measure.leakage import Leakage, analyse
from ..measure.metrics import Score
from .chunk_table import ChunkTable
from .record_file import EVALUATE_AGAIN, load_record, write_json

SCHEMA_VERSION = 1
RESULTS_FILE = "results.json"
CHUNKS_FILE = "chunks.parquet"


@dataclass(frozen=True)
class DataCounts:
    """Size of the corpus (all splits together), and figures about its data.

    Attributes:
        documents: number of documents.
        chunks: number of chunks.
        tokens: number of tokens.
        bytes: UTF-8 bytes of raw text.
        duplicates: documents of the scored split that equal a training document up to white space;
            None in older files.
        unread: scored documents in which no token could read a neighbour, because they are at most
            a chunk long or no neighbour was found; None without retrieval.
        coverage: by split, share of neighbour slots that are filled; None without retrieval.
        recall_at_10: recall of an approximate search against exact search, on a sample; None for an
            exact search.
        spelt: share of the scored split's bytes encoded as byte tokens because the tokenizer would
            lose them; None for a lossless tokenizer.
        unknown: share of the scored split's tokens whose text an imported dataset lacks; None for
            other corpora.
    """

    documents: int
    chunks: int
    tokens: int
    bytes: int
    duplicates: int | None = None
    unread: int | None = None
    coverage: dict[str, float] | None = None
    recall_at_10: float | None = None
    spelt: float | None = None
    unknown: float | None = None


@dataclass(frozen=True)
class SearchedDatabase:
    """The database searched for neighbours.

    Attributes:
        name: description of the database.
        trained_with: description of the database used in training.
        documents: number of documents searched.
        chunks: number of chunks searched.
        planted: ids of evaluated documents with a copy planted in the database.
    """

    name: str
    trained_with: str
    documents: int
    chunks: int
    planted: list[str]


@dataclass(frozen=True)
class EvaluationSettings:
    """How the figures were measured.

    Attributes:
        split: the scored split of chunks.parquet and `leakage`.
        window: tokens of a window, the longest context.
        stride: tokens between windows.
        scored_with_retrieval_fraction: share of scored tokens that could read a neighbour.
        database: the searched database; None without retrieval, and in older results.
        words: words and line ends in the raw text of the split; None if not counted.
        max_run: RETRO[filtered] replaces neighbours that share a run of this length or more with
            the text; None if this condition was not scored.
    """

    split: str
    window: int
    stride: int
    scored_with_retrieval_fraction: float | None
    database: SearchedDatabase | None = None
    words: int | None = None
    max_run: int | None = None


@dataclass(frozen=True)
class PlainModel:
    """The model without retrieval that the gain is measured against.

    Attributes:
        run: name of its directory, beside that of the run.
        run_key: digest of its configuration.
        match: the training cost it shares with RETRO, `tokens` or `flops`.
        steps: optimiser steps.
        training_tokens: tokens read, padding and repeated documents included.
        lr: its peak learning rate.
        epochs: times that the training text was read: `training_tokens` over the tokens of the
            training split; None in older results.
    """

    run: str
    run_key: str
    match: str
    steps: int
    training_tokens: int
    lr: float
    epochs: float | None = None


@dataclass(frozen=True)
class MemoryRead:
    """The memory that was read at every token.

    Attributes:
        name: of the configuration's option.
        experts: kinds of evidence.
        database: description of its text.
        documents: number of documents read.
        tokens: number of tokens that evidence is counted over.
        max_run: evidence from longer matches was left out; None if none was.
        exact: bits per byte and differences over the chunks that share at most alpha of their
            length, in one run, with any text of the database or the training split; None without a
            database or without a leakage measure.
        lineage: key of each stage of the database that was read; None in older results.
    """

    name: str
    experts: list[str]
    database: str
    documents: int
    tokens: int
    max_run: int | None = None
    exact: Leakage | None = None
    lineage: dict[str, str] | None = None


@dataclass(frozen=True)
class Results:
    """The results of one evaluated run.

    Attributes:
        run_key: digest of the settings that decide the results.
        config: the resolved configuration, plain JSON values.
        lineage: key of each data stage used.
        environment: versions of code and packages, and hardware.
        data: size of the corpus.
        evaluation: how the figures were measured.
        metrics: scores by split and condition.
        leakage: curves and paired differences.
        timing: seconds by activity.
        plain: the model of the condition `plain`; None if not scored, and in older results.
        compressors: bits per byte of compressors that read the same training text, by name; None
            if not run.
        memory: None without a memory or cache, and in older results.
        custom: figures of the user's own metrics, by metric, those of earlier evaluations of the
            same scored chunks included; None without any.
        schema_version: version of this record; raised when fields change their meaning.
    """

    run_key: str
    config: dict[str, Any]
    lineage: dict[str, str]
    environment: dict[str, Any]
    data: DataCounts
    evaluation: EvaluationSettings
    metrics: dict[str, dict[str, Score]]
    leakage: Leakage
    timing: dict[str, float]
    plain: PlainModel | None = None
    compressors: dict[str, float] | None = None
    memory: MemoryRead | None = None
    custom: dict[str, dict[str, float]] | None = None
    schema_version: int = SCHEMA_VERSION

    def save(self, path: Path) -> None:
        """Writes results.json atomically."""
        metrics = {
            split: {name: self._plain(score) for name, score in scores.items()}
            for split, scores in self.metrics.items()
        }
        record = {f.name: getattr(self, f.name) for f in fields(self)} | {"metrics": metrics}
        write_json(record, path)

    def _plain(self, score: Score) -> dict[str, Any]:
        words = self.evaluation.words
        if words is None:
            return score.as_dict()
        per_word = score.per_word(words)
        return score.as_dict() | {"word_ppl": per_word if math.isfinite(per_word) else None}

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads results.json.

        Raises:
            UserError: the file is missing, damaged or of another schema version.
        """
        results = load_record(
            cls, path, SCHEMA_VERSION, EVALUATE_AGAIN, absent="evaluate the run first"
        )
        try:
            return _checked(results)
        except ValueError as error:
            raise UserError(f"{path} is damaged: {error}", fix=EVALUATE_AGAIN) from error


def _checked(results: Results) -> Results:
    """Returns the results, or raises ValueError if the scored split or the curves are missing."""
    if results.evaluation.split not in results.metrics:
        raise ValueError(f"metrics has no split {results.evaluation.split}")
    if not results.leakage.curves or not all(results.leakage.curves.values()):
        raise ValueError("leakage.curves is empty")
    return results


def warnings(results: Results) -> list[str]:
    """Sentences about properties of the data that limit what the figures show."""
    split, data = results.evaluation.split, results.data
    documents = next(iter(results.leakage.curves.values()))[-1].documents
    found = []
    if split == "train":
        found.append(
            "WARNING: the scored split is the training text itself. Its figures show what was "
            "learned by heart, not what can be done with new text; evaluate with eval.split=test."
        )
    if data.duplicates:
        found.append(
            f"WARNING: {data.duplicates:,} of {documents:,} scored documents of the {split} split "
            "stand word for word in the training split. Figures over all chunks reward copying; "
            "read those at r(C) <= 0.125, or take the copies out of the corpus."
        )
    if data.unread:
        found.append(
            f"NOTE: {data.unread:,} of {documents:,} scored documents read no neighbour: they "
            "are not longer than a chunk, or none was found. Retrieval cannot change their score."
        )
    if data.spelt:
        found.append(
            f"NOTE: {data.spelt:.2%} of the {split} split's bytes are tokens of their own, because "
            "the tokenizer loses them otherwise. They are predicted and counted like all others."
        )
    if data.unknown:
        found.append(
            f"NOTE: {data.unknown:.2%} of the {split} split's tokens stand for text that the "
            "dataset's tokenizer did not know. They are predicted but have no bytes: bits per byte "
            "are of the text that the other tokens spell."
        )
    return found


def recompute(chunks_path: Path, recorded: Leakage) -> Leakage:
    """Recomputes a leakage report from chunks.parquet and the recorded settings."""
    table = ChunkTable.load(chunks_path)
    return analyse(table, recorded.alphas, recorded.reference, recorded.bootstrap)

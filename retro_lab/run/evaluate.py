"""Evaluates a trained run: scores, overlap, results.json, chunks.parquet, plots and pages."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.config.fingerprints import eval_fields, run_key
from retro_lab.config.schema import (
    Config,
    DatabaseConfig,
    EvalConfig,
    Reference,
)
from retro_lab.config.serialise import to_plain
from retro_lab.evaluation.measure.leakage import analyse
from retro_lab.evaluation.measure.metrics import ChunkScores
from retro_lab.evaluation.measure.ngram_overlap import similarity
from retro_lab.evaluation.measure.overlap_stage import shared_runs
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap, Reading
from retro_lab.evaluation.records.environment import environment
from retro_lab.evaluation.records.results import (
    DataCounts,
    EvaluationSettings,
    PlainModel,
    Results,
    SearchedDatabase,
)
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.evaluation.report.plots import plot_leakage
from retro_lab.evaluation.report.reference_words import EXACT, EXACT_WITH_DATABASE
from retro_lab.evaluation.report.run_page import write_run_page
from retro_lab.evaluation.report.sweep import scored_k
from retro_lab.text.duplicates import duplicates_in_training
from retro_lab.training.publish import publish

from .compared import Compared
from .compressors import compressed
from .directory import RunDirectory
from .inspection import GAIN_FILES, INSPECT_FILE, record_gain, write_inspection
from .model import build_data
from .run_data import Prepared
from .scores import conditions, neighbours_read, score_conditions
from .stages import overlap_retriever

LOG = logging.getLogger("retro_lab")
PLOT_FILE = "leakage.png"


def evaluate_run(
    config: Config,
    evaluation: EvalConfig,
    run: RunDirectory,
    prepared: Prepared,
    compared: Compared,
    database: DatabaseConfig | None = None,
) -> Results:
    """Scores every condition on the same tokens and writes the run's results.

    Args:
        config: of the run.
        database: searched instead of the run's own; `prepared` must be its data, and the results
            lie apart, in `run.searching(database)`.
        evaluation: what to measure; may differ from the configuration's own.
        prepared: the run's data.
        compared: the plain models to compare with, by condition.
    """
    key, out = run_key(config), run
    config = dataclasses.replace(config, eval=evaluation)
    if database is not None:
        config, out = dataclasses.replace(config, database=database), run.searching(database)
    data = build_data(config, prepared)
    torch.set_num_threads(config.trainer.threads or torch.get_num_threads())
    scores = score_conditions(config, run, out, prepared, data, compared)
    table = _table(config, prepared, scores)
    tokens = _tokens(config, prepared, scores, conditions(config, compared))
    expected = prepared.pipeline.open_corpus().num_bytes(evaluation.split)
    if int(table.bytes.sum()) != expected:
        raise ValueError(f"{table.bytes.sum()} bytes scored of {expected} in the split")
    reference = _reference(config) if table.overlap is not None else None
    bootstrap = Bootstrap(evaluation.bootstrap_samples, evaluation.confidence, evaluation.seed)
    leakage = analyse(table, evaluation.alphas, reference, bootstrap)
    results = Results(
        run_key=key,
        config=to_plain(config),
        lineage=prepared.lineage,
        environment=environment(),
        data=_counts(config, prepared, table),
        evaluation=EvaluationSettings(
            split=evaluation.split,
            window=config.chunking.sequence_length,
            stride=data.stride,
            scored_with_retrieval_fraction=table.retrieval_fraction,
            database=_database(config, prepared, run) if prepared.table is not None else None,
            words=_words(config, prepared) if evaluation.words else None,
            max_run=_max_run(config, out) if "filtered" in scores else None,
        ),
        metrics={evaluation.split: {name: table.score(name) for name in scores}},
        leakage=leakage,
        timing=run.status["seconds"],
        plain=_plain(config, compared) if "plain" in scores else None,
        compressors=compressed(config, prepared, data.stride) if "on" in scores else None,
    )
    out.forget_evaluation()
    _remove_older(out, tokens, evaluation)
    table.save(out.chunks_file)
    results.save(out.results_file)
    if tokens is not None:
        tokens.save(out.tokens_file, table)
    if table.overlap is not None:
        _plot(results, out)
    plants = prepared.pipeline.searched.planted()
    if plants is not None:
        out.record_planted(plants)
    found = record_gain(config, out, table, tokens, leakage)
    if found is not None and tokens is not None and evaluation.pages:
        write_inspection(config, out, prepared, tokens, found)
    write_run_page(results, out.path)
    out.record_evaluation(eval_fields(evaluation, config.wanted_plain if results.plain else None))
    own = dataclasses.replace(run.config(), eval=evaluation)
    publish(results, own, run.path, out.path, lineage=run.lineage)
    return results


def _plain(config: Config, compared: Compared) -> PlainModel:
    """What the plain model was trained as."""
    other = compared["plain"].config()
    tokens_a_step = other.schedule.batch_size * other.chunking.sequence_length
    return PlainModel(
        run=compared["plain"].path.name,
        run_key=run_key(other),
        match=config.plain.match.name,
        steps=other.schedule.steps,
        training_tokens=other.schedule.steps * tokens_a_step,
        lr=other.optim.lr,
    )


def _remove_older(out: RunDirectory, tokens: TokenTable | None, evaluation: EvalConfig) -> None:
    """Removes what an earlier evaluation made and this one may not: it would be of other figures.

    Token scores that are there unasked were read from the files, so a page of them still holds.
    """
    names = [PLOT_FILE, *GAIN_FILES]
    if tokens is None or evaluation.wants_tokens:
        names.append(INSPECT_FILE)
    if tokens is None:
        names.append(out.tokens_file.name)
    for name in names:
        (out.path / name).unlink(missing_ok=True)


def _words(config: Config, prepared: Prepared) -> int:
    """Words of the scored split as papers on WikiText count them: a line's end is one too."""
    corpus = prepared.pipeline.open_corpus()
    texts = map(corpus.text, map(int, corpus.documents_of(config.eval.split)))
    return sum(len(text.split()) + text.count("\n") for text in texts)


def _max_run(config: Config, out: RunDirectory) -> int | None:
    """That of RETRO[filtered], scored earlier if this evaluation doesn't ask for it."""
    asked = config.scored_max_run
    return Results.load(out.results_file).evaluation.max_run if asked is None else asked


def _database(config: Config, prepared: Prepared, run: RunDirectory) -> SearchedDatabase:
    chunks = prepared.chunks
    documents = np.unique(chunks.document[chunks.searched])
    own = run.config().database
    plants = prepared.pipeline.searched.planted()
    return SearchedDatabase(
        name=config.database.in_words(),
        trained_with=own.in_words(),
        documents=len(documents),
        chunks=len(chunks.searched),
        planted=plants["planted"] if plants else [],
    )


def _table(config: Config, prepared: Prepared, scores: dict[str, ChunkScores]) -> ChunkTable:
    """One row a scored chunk."""
    chunks = prepared.chunks
    rows = next(iter(scores.values())).rows
    ids = prepared.corpus.ids
    read = np.empty((len(rows), 0), np.int64)
    overlap = alike = reading = None
    if prepared.table is not None:
        k = config.scored_k
        read = neighbours_read(prepared, prepared.table.ids, rows, k).astype(np.int64)
        reading = _reading(config, prepared, rows, read)
        if config.eval.ngram is not None:
            following = config.chunking.continuation_chunks
            alike = similarity(chunks, rows, read, following, config.eval.ngram)
        if config.eval.leakage:
            partial = (chunks.tokens[rows] == chunks.pad_id).any(axis=1)
            overlap = Overlap(_longest_runs(config, prepared, rows, read), partial)
    document_ids = [ids[d] for d in chunks.document[rows]]
    return ChunkTable.from_scores(
        scores, document_ids, chunks.index[rows], read, overlap, alike, reading
    )


def _tokens(
    config: Config, prepared: Prepared, scores: dict[str, ChunkScores], asked: Sequence[str]
) -> TokenTable | None:
    """One row a scored token, if each condition that was asked for is known by token."""
    by_token = {name: each for name, each in scores.items() if each.by_token is not None}
    if not by_token.keys() >= set(asked):
        return None
    chunks = prepared.chunks
    rows = next(iter(scores.values())).rows
    longest = None
    exact = config.eval.leakage and config.eval.reference is Reference.exact_corpus
    if prepared.table is not None and exact:
        split = chunks.chunks_of(config.eval.split)
        longest = prepared.pipeline.open_matching()[np.searchsorted(split, rows)]
    return TokenTable.from_scores(by_token, chunks, rows, longest)


def _reading(
    config: Config, prepared: Prepared, rows: NDArray[np.int64], read: NDArray[np.int64]
) -> Reading:
    """Each neighbour's retrieval score, and the run that it shares with the chunk predicted."""
    assert prepared.table is not None
    following = config.chunking.continuation_chunks
    runs = np.zeros(read.shape, np.int32)
    for rank in range(read.shape[1]):
        runs[:, rank] = shared_runs(prepared.chunks, rows, read[:, rank : rank + 1], following)
    scores = neighbours_read(prepared, prepared.table.scores, rows, read.shape[1])
    return Reading(scores, runs)


def _longest_runs(
    config: Config, prepared: Prepared, rows: NDArray[np.int64], read: NDArray[np.int64]
) -> NDArray[np.int32]:
    """[S] longest run that each scored chunk shares with the reference text."""
    chunks = prepared.chunks
    if config.eval.reference is Reference.seen_neighbours:
        return shared_runs(chunks, rows, read, config.chunking.continuation_chunks)
    split = chunks.chunks_of(config.eval.split)
    return prepared.pipeline.open_overlap()[np.searchsorted(split, rows)]


def _reference(config: Config) -> str:
    """Whose text counted as leaked, and which retriever found it, if one did."""
    if config.eval.reference is Reference.exact_corpus:
        return EXACT if config.database.is_training_split else EXACT_WITH_DATABASE
    seen = config.eval.reference is Reference.seen_neighbours
    retriever = config.retriever if seen else overlap_retriever(config)
    return f"{config.eval.reference.name} ({retriever.name})"


def _counts(config: Config, prepared: Prepared, table: ChunkTable) -> DataCounts:
    corpus, chunks = prepared.pipeline.open_corpus(), prepared.pipeline.open_chunks()
    tokens = int((chunks.token_bytes[:] > 0).sum())
    unread = None
    if prepared.table is not None:
        reads = np.bincount(table.document, table.with_retrieval)
        unread = int((reads == 0).sum())
    duplicates = len(duplicates_in_training(corpus, config.eval.split))
    return DataCounts(
        documents=corpus.num_documents,
        chunks=chunks.num_chunks,
        tokens=tokens,
        bytes=corpus.num_bytes(),
        duplicates=duplicates,
        unread=unread,
        coverage=prepared.found.get("coverage"),
        recall_at_10=prepared.found.get("recall_at_10"),
        **prepared.pipeline.mended_shares(config.eval.split),
    )


def _plot(results: Results, run: RunDirectory) -> None:
    config = results.config
    retriever, k = config["retriever"]["name"], scored_k(config)
    plot_leakage(
        results.leakage,
        run.path / PLOT_FILE,
        corpus=config["corpus"]["name"],
        model=f"{config['model']['name']}, {retriever}, k={k}",
        split=results.evaluation.split,
    )

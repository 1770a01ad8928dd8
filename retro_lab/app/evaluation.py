"""Evaluates a trained run: conditions, overlap, results.json, chunks.parquet and the plot."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from retro_lab.artifacts import track
from retro_lab.config.databases import in_words, is_training_split
from retro_lab.config.fingerprints import eval_fields, has_retrieval, run_key
from retro_lab.config.schema import Config, DatabaseConfig, EvalConfig, Reference
from retro_lab.config.serialise import to_plain
from retro_lab.data.datamodule import RetroDataModule
from retro_lab.evaluation.chunk_table import ChunkTable, Overlap
from retro_lab.evaluation.environment import environment
from retro_lab.evaluation.leakage import analyse
from retro_lab.evaluation.metrics import ChunkScores
from retro_lab.evaluation.ngram_overlap import similarity
from retro_lab.evaluation.overlap_stage import shared_runs
from retro_lab.evaluation.plots import plot_leakage
from retro_lab.evaluation.reference_words import EXACT, EXACT_WITH_DATABASE
from retro_lab.evaluation.results import (
    DataCounts,
    EvaluationSettings,
    Results,
    SearchedDatabase,
)
from retro_lab.evaluation.scoring import score
from retro_lab.evaluation.statistics import Bootstrap
from retro_lab.nn import Retro
from retro_lab.retrieval.table import NeighbourTable
from retro_lab.text.chunks import ChunkStore

from .build import build_data, build_model
from .inspection import plot_sources, write_inspection
from .run_directory import RunDirectory
from .stages import Pipeline, Prepared, overlap_retriever, random_retriever

LOG = logging.getLogger("retro_lab")
PLOT_FILE = "leakage.png"


def evaluate_run(
    config: Config,
    evaluation: EvalConfig,
    run: RunDirectory,
    prepared: Prepared,
    baseline: RunDirectory | None,
    database: DatabaseConfig | None = None,
) -> Results:
    """Scores every condition on the same tokens and writes the run's results.

    Args:
        config: of the run.
        database: searched instead of the run's own; `prepared` must be its data, and the results
            lie apart, in `run.searching(database)`.
        evaluation: what to measure; may differ from the configuration's own.
        prepared: the run's data.
        baseline: the run to compare with; None leaves the condition out.
    """
    key, out = run_key(config), run
    config = dataclasses.replace(config, eval=evaluation)
    if database is not None:
        config, out = dataclasses.replace(config, database=database), run.searching(database)
    data = build_data(config, prepared)
    torch.set_num_threads(config.trainer.threads or torch.get_num_threads())
    scores = _scores(config, run, prepared, data, baseline)
    table = _table(config, prepared, scores)
    reference = _reference(config) if table.overlap is not None else None
    bootstrap = Bootstrap(evaluation.bootstrap_samples, evaluation.confidence, evaluation.seed)
    leakage = analyse(table, evaluation.alphas, reference, bootstrap)
    results = Results(
        run_key=key,
        config=to_plain(config),
        lineage=prepared.lineage,
        environment=environment(),
        data=_counts(prepared),
        evaluation=EvaluationSettings(
            split=evaluation.split,
            window=config.chunking.sequence_length,
            stride=data.stride,
            scored_with_retrieval_fraction=table.retrieval_fraction,
            database=_database(config, prepared, run) if prepared.table is not None else None,
        ),
        metrics={evaluation.split: {name: table.score(name) for name in scores}},
        leakage=leakage,
        timing=run.status["seconds"],
    )
    table.save(out.chunks_file)
    results.save(out.results_file)
    if table.overlap is not None:
        _plot(results, out.path / PLOT_FILE)
    plants = prepared.pipeline.searched.planted()
    if plants is not None:
        out.record_planted(plants)
    found = plot_sources(config, out, table, leakage)
    if found is not None and evaluation.pages:
        model = load_model(config, run, prepared)
        write_inspection(config, out, prepared, data, model, found)
    out.record_evaluation(eval_fields(evaluation))
    return results


def _database(config: Config, prepared: Prepared, run: RunDirectory) -> SearchedDatabase:
    chunks = prepared.chunks
    documents = np.unique(chunks.document[chunks.searched])
    own = run.config().database
    plants = prepared.pipeline.searched.planted()
    return SearchedDatabase(
        name=in_words(config.database),
        trained_with=in_words(own),
        documents=len(documents),
        chunks=len(chunks.searched),
        planted=plants["planted"] if plants else [],
    )


def _scores(
    config: Config,
    run: RunDirectory,
    prepared: Prepared,
    data: RetroDataModule,
    baseline: RunDirectory | None,
) -> dict[str, ChunkScores]:
    """Nats by chunk for each condition; the baseline's come from its own evaluation."""
    split, pipeline = config.eval.split, Pipeline(config)
    model = load_model(config, run, prepared)
    if not has_retrieval(config):
        return {"baseline": _score(model, data, prepared, split, None, "baseline")}
    scores = {
        "on": _score(model, data, prepared, split, prepared.table, "on"),
        "off": _score(model, data, prepared, split, None, "off"),
    }
    if config.eval.random:
        table = pipeline.open_table(random_retriever(config))
        scores["random"] = _score(model, data, prepared, split, table, "random")
    if baseline is not None:
        scores["baseline"] = _baseline_scores(config, prepared, baseline, scores["on"], data)
    return scores


def load_model(config: Config, run: RunDirectory, prepared: Prepared) -> Retro:
    """The run's trained model, in evaluation mode.

    Raises:
        UserError: if the run has no checkpoint.
    """
    model = build_model(config, prepared.chunks.vocab_size, prepared.chunks.pad_id)
    model.load_state_dict(run.weights())
    device = "cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu"
    return model.to(device).eval()


def _score(
    model: Retro, data: RetroDataModule, prepared: Prepared, split: str, table, what: str
) -> ChunkScores:
    loader = data.evaluation_loader(split, table)
    windows = len(loader.dataset)  # pyright: ignore[reportArgumentType]
    with track(windows, f"scoring {what}", "windows") as advance:
        return score(
            model,
            loader,
            prepared.chunks.num_chunks,
            chunk_size=prepared.chunks.chunk_size,
            pad_id=prepared.chunks.pad_id,
            retrieval=table is not None,
            advance=advance,
        )


def _baseline_scores(
    config: Config,
    prepared: Prepared,
    baseline: RunDirectory,
    same_tokens: ChunkScores,
    data: RetroDataModule,
) -> ChunkScores:
    """Read from the baseline's chunks.parquet if it was evaluated likewise, else scored anew."""
    if baseline.is_evaluated(config.eval):
        table = ChunkTable.load(baseline.chunks_file)
        rows = same_tokens.rows
        if len(table) == len(rows) and np.array_equal(table.tokens, same_tokens.tokens[rows]):
            nats = np.zeros_like(same_tokens.nats)
            nats[rows] = table.nats["baseline"]
            zeros = np.zeros_like(same_tokens.with_retrieval)
            return ChunkScores(nats, same_tokens.tokens, same_tokens.bytes, zeros)
    model = load_model(baseline.config(), baseline, prepared)
    return _score(model, data, prepared, config.eval.split, None, "baseline")


def _table(config: Config, prepared: Prepared, scores: dict[str, ChunkScores]) -> ChunkTable:
    """One row a scored chunk."""
    chunks = prepared.chunks
    rows = next(iter(scores.values())).rows
    ids = prepared.corpus.ids
    read = np.empty((len(rows), 0), np.int64)
    overlap = alike = None
    if prepared.table is not None:
        read = _read_by(chunks, prepared.table, rows, config.neighbours.k)
        if config.eval.ngram is not None:
            following = config.chunking.continuation_chunks
            alike = similarity(chunks, rows, read, following, config.eval.ngram)
        if config.eval.leakage:
            partial = (chunks.tokens[rows] == chunks.pad_id).any(axis=1)
            overlap = Overlap(_longest_runs(config, chunks, rows, read), partial)
    document_ids = [ids[d] for d in chunks.document[rows]]
    return ChunkTable.from_scores(scores, document_ids, chunks.index[rows], read, overlap, alike)


def _read_by(
    chunks: ChunkStore, table: NeighbourTable, rows: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """[S, k] chunks that the model read while predicting each chunk: the previous one's."""
    read = table.ids[np.maximum(rows - 1, 0), :k].astype(np.int64)
    read[chunks.index[rows] == 0] = -1
    return read


def _longest_runs(
    config: Config, chunks: ChunkStore, rows: NDArray[np.int64], read: NDArray[np.int64]
) -> NDArray[np.int32]:
    """[S] longest run that each scored chunk shares with the reference text."""
    if config.eval.reference is Reference.seen_neighbours:
        return shared_runs(chunks, rows, read, config.chunking.continuation_chunks)
    split = chunks.chunks_of(config.eval.split)
    return Pipeline(config).open_overlap()[np.searchsorted(split, rows)]


def _reference(config: Config) -> str:
    """Whose text counted as leaked, and which retriever found it, if one did."""
    if config.eval.reference is Reference.exact_corpus:
        return EXACT if is_training_split(config.database) else EXACT_WITH_DATABASE
    seen = config.eval.reference is Reference.seen_neighbours
    retriever = config.retriever if seen else overlap_retriever(config)
    return f"{config.eval.reference.name} ({retriever.name})"


def _counts(prepared: Prepared) -> DataCounts:
    chunks = prepared.pipeline.open_chunks()
    tokens = int((chunks.token_bytes[:] > 0).sum())
    return DataCounts(
        documents=prepared.corpus.num_documents,
        chunks=chunks.num_chunks,
        tokens=tokens,
        bytes=prepared.corpus.num_bytes(),
    )


def _plot(results: Results, path: Path) -> None:
    config = results.config
    retriever, k = config["retriever"]["name"], config["neighbours"]["k"]
    plot_leakage(
        results.leakage,
        path,
        corpus=config["corpus"]["name"],
        model=f"{config['model']['name']}, {retriever}, k={k}",
        split=results.evaluation.split,
    )

"""Evaluates a trained run and writes results.json, chunks.parquet, plots and pages."""

from __future__ import annotations

import dataclasses
import logging
from contextlib import suppress

import numpy as np
import torch

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import eval_fields, memory_fields
from retro_lab.config.schema import (
    Config,
    Reference,
)
from retro_lab.config.serialise import to_plain
from retro_lab.evaluation.measure.leakage import Leakage, analyse
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.environment import environment
from retro_lab.evaluation.records.examples_file import EXAMPLES_FILE
from retro_lab.evaluation.records.results import (
    DataCounts,
    EvaluationSettings,
    MemoryRead,
    PlainModel,
    Results,
    SearchedDatabase,
)
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.evaluation.report.plots import plot_leakage
from retro_lab.evaluation.report.reference_words import EXACT, EXACT_WITH_DATABASE
from retro_lab.evaluation.report.sweep import scored_k
from retro_lab.text.duplicates import duplicates_in_training
from retro_lab.training.publish import publish

from ..compared import Compared
from ..data.graph import DataGraph
from ..data.memory_nodes import context_nodes, memory_lineage
from ..directory import RunDirectory
from ..model import build_data
from ..page import write_page
from .compressors import compressor_scores
from .examples import example_chunks
from .inspection import (
    GAIN_FILES,
    INSPECT_FILE,
    memory_gain,
    record_gain,
    write_inspection,
)
from .measured import chunk_table, token_table
from .own_metrics import EarlierFigures, own_metrics
from .probes import overlap_retriever
from .scores import Scoring, conditions

LOG = logging.getLogger("retro_lab")
PLOT_FILE = "leakage.png"


def evaluate_run(
    config: Config,
    run: RunDirectory,
    out: RunDirectory,
    graph: DataGraph,
    compared: Compared,
) -> Results:
    """Scores every condition on the same tokens and writes the run's results.

    Args:
        config: of the run, with the requested evaluation and database.
        run: directory with the weights.
        out: directory for the results.
        graph: the data, with that database.
        compared: baseline and plain model, by condition.
    """
    evaluation = config.eval
    data = build_data(config, graph)
    torch.set_num_threads(config.trainer.threads or torch.get_num_threads())
    scores = Scoring(config, run, out, graph, data, compared).scores()
    table = chunk_table(config, graph, scores)
    tokens = token_table(config, graph, scores, conditions(config, compared))
    expected = graph.own.corpus.data.num_bytes(evaluation.split)
    if int(table.bytes.sum()) != expected:
        raise ValueError(f"{table.bytes.sum()} bytes scored of {expected} in the split")
    leakage = _leakage(config, table)
    results = _results(config, run, out, graph, compared, table, leakage)
    out.path.mkdir(parents=True, exist_ok=True)
    earlier = EarlierFigures.of(out)
    out.forget_evaluation()
    _remove_older(out, tokens, config)
    table.save(out.chunks_file)
    kept = earlier.still_valid(out.chunks_file)
    results = dataclasses.replace(results, custom=kept)
    results.save(out.results_file)
    custom = own_metrics(evaluation.metrics, out.chunks_file)
    if custom is not None:
        results = dataclasses.replace(results, custom=(kept or {}) | custom)
        results.save(out.results_file)
    if tokens is not None:
        tokens.save(out.tokens_file, table)
    _show(config, out, graph, results, table, tokens)
    plain = config.wanted_plain if results.plain else None
    out.record_evaluation(eval_fields(evaluation, plain, memory_fields(config)))
    _list_in_base(out)
    own = dataclasses.replace(run.config(), eval=evaluation)
    publish(results, own, run.path, out.path, lineage=run.lineage)
    return results


def _list_in_base(out: RunDirectory) -> None:
    """Writes the page that lists this evaluation, if it is of another kind than the run's own."""
    base = out.base
    if base is not out and base.results_file.is_file():
        with suppress(UserError):  # damaged results were warned of when scores were read
            write_page(base)


def _leakage(config: Config, table: ChunkTable) -> Leakage:
    """Bits per byte by overlap threshold alpha, and paired differences between conditions."""
    asked = config.eval
    reference = _reference(config) if table.overlap is not None else None
    bootstrap = Bootstrap(asked.bootstrap_samples, asked.confidence, asked.seed)
    return analyse(table, asked.alphas, reference, bootstrap)


def _results(
    config: Config,
    run: RunDirectory,
    out: RunDirectory,
    graph: DataGraph,
    compared: Compared,
    table: ChunkTable,
    leakage: Leakage,
) -> Results:
    """All figures, with the data and settings behind them."""
    asked, scored = config.eval, table.nats
    stride = config.scored_stride
    return Results(
        run_key=run.key,
        config=to_plain(config),
        lineage=graph.lineage,
        environment=environment(),
        data=_counts(config, graph, table),
        evaluation=EvaluationSettings(
            split=asked.split,
            window=config.chunking.sequence_length,
            stride=stride,
            scored_with_retrieval_fraction=table.retrieval_fraction,
            database=_database(config, graph, run) if graph.retrieves else None,
            words=_words(config, graph) if asked.words else None,
            max_run=_max_run(config, out) if "filtered" in scored else None,
        ),
        metrics={asked.split: {name: table.score(name) for name in scored}},
        leakage=leakage,
        timing=run.status["seconds"],
        plain=_plain(config, graph, compared) if "plain" in scored else None,
        compressors=compressor_scores(config, graph, stride) if "on" in scored else None,
        memory=_memory(config, graph, table) if config.memory.reads else None,
    )


def _show(
    config: Config,
    out: RunDirectory,
    graph: DataGraph,
    results: Results,
    table: ChunkTable,
    tokens: TokenTable | None,
) -> None:
    """Writes plots, pages and the record of planted documents."""
    if table.overlap is not None:
        _plot(results, out)
    plants = graph.searched.planted()
    if plants is not None:
        out.record_planted(plants)
    found = record_gain(config, out, table, tokens, results.leakage)
    if found is None and config.memory.reads and config.eval.pages:
        found = memory_gain(table, results.leakage)
    if found is not None and tokens is not None and config.eval.pages:
        write_inspection(config, out, graph, table, tokens, found)
    examples = example_chunks(config, graph, table)
    if examples is not None:
        examples.save(out.path)
    write_page(out)


def _plain(config: Config, graph: DataGraph, compared: Compared) -> PlainModel:
    """The plain model's training settings."""
    other = compared["plain"].config()
    tokens = other.schedule.steps * other.schedule.batch_size * other.chunking.sequence_length
    text = graph.own.chunks.artifact.stats["splits"]["train"]["tokens"]
    return PlainModel(
        run=compared["plain"].path.name,
        run_key=compared["plain"].key,
        match=config.plain.match.name,
        steps=other.schedule.steps,
        training_tokens=tokens,
        lr=other.optim.lr,
        epochs=round(tokens / text, 3) if text else None,
    )


def _remove_older(out: RunDirectory, tokens: TokenTable | None, config: Config) -> None:
    """Removes files of an earlier evaluation that this one may not overwrite.

    A page is kept if its token scores were read from the files, since it is still valid. Without
    retrieval these are a memory's.
    """
    names = [PLOT_FILE, EXAMPLES_FILE, *GAIN_FILES]
    known = tokens is not None and (config.retriever.retrieves or tokens.memory is not None)
    if not known or config.eval.wants_tokens:
        names.append(INSPECT_FILE)
    if tokens is None:
        names.append(out.tokens_file.name)
    for name in names:
        (out.path / name).unlink(missing_ok=True)


def _memory(config: Config, graph: DataGraph, table: ChunkTable) -> MemoryRead:
    memory, asked, exact = config.memory, config.eval, None
    documents = tokens = 0
    if memory.experts:
        chunks = graph.searched.chunks
        documents = len(np.unique(chunks.document[chunks.searched]))
        if "suffix" in memory.experts:
            tokens = sum(node.artifact.stats["tokens"] for node in context_nodes(graph))
        else:  # knn alone, of the training split
            tokens = graph.own.chunks.artifact.stats["splits"]["train"]["tokens"]
    if table.exact is not None:
        bootstrap = Bootstrap(asked.bootstrap_samples, asked.confidence, asked.seed)
        own = config.database.is_training_split
        reference = EXACT if own else EXACT_WITH_DATABASE
        by_run = dataclasses.replace(table, overlap=table.exact)
        exact = analyse(by_run, asked.alphas, reference, bootstrap)
    return MemoryRead(
        name=memory.name,
        experts=[*memory.experts, *(["cache"] if memory.cache else [])],
        database=config.database.in_words(),
        documents=documents,
        tokens=tokens,
        max_run=memory.max_run,
        exact=exact,
        lineage=memory_lineage(graph, memory),
    )


def _words(config: Config, graph: DataGraph) -> int:
    """Words of the scored split, counted as in papers on WikiText: each line end is one more."""
    corpus = graph.own.corpus.data
    texts = map(corpus.text, map(int, corpus.documents_of(config.eval.split)))
    return sum(len(text.split()) + text.count("\n") for text in texts)


def _max_run(config: Config, out: RunDirectory) -> int | None:
    """`max_run` of RETRO[filtered]; the stored one if this evaluation doesn't set it."""
    asked = config.scored_max_run
    return Results.load(out.results_file).evaluation.max_run if asked is None else asked


def _database(config: Config, graph: DataGraph, run: RunDirectory) -> SearchedDatabase:
    chunks = graph.chunks
    documents = np.unique(chunks.document[chunks.searched])
    own = run.config().database
    plants = graph.searched.planted()
    return SearchedDatabase(
        name=config.database.in_words(),
        trained_with=own.in_words(),
        documents=len(documents),
        chunks=len(chunks.searched),
        planted=plants["planted"] if plants else [],
    )


def _reference(config: Config) -> str:
    """Label of the text that r(C) is measured against, with the retriever that found it, if any."""
    if config.eval.reference is Reference.exact_corpus:
        return EXACT if config.database.is_training_split else EXACT_WITH_DATABASE
    seen = config.eval.reference is Reference.seen_neighbours
    retriever = config.retriever if seen else overlap_retriever(config)
    return f"{config.eval.reference.name} ({retriever.name})"


def _counts(config: Config, graph: DataGraph, table: ChunkTable) -> DataCounts:
    corpus, chunks = graph.own.corpus.data, graph.own.chunks.data
    tokens = int((chunks.token_bytes[:] > 0).sum())
    unread = None
    if graph.table is not None:
        reads = np.bincount(table.document, table.with_retrieval)
        unread = int((reads == 0).sum())
    duplicates = len(duplicates_in_training(corpus, config.eval.split))
    found = graph.own_neighbours.artifact.stats if graph.retrieves else {}
    return DataCounts(
        documents=corpus.num_documents,
        chunks=chunks.num_chunks,
        tokens=tokens,
        bytes=corpus.num_bytes(),
        duplicates=duplicates,
        unread=unread,
        coverage=found.get("coverage"),
        recall_at_10=found.get("recall_at_10"),
        **graph.mended_shares(config.eval.split),
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

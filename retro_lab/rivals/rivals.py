"""`evaluate.py run=... eval=rivals`: tunes rivals on validation, scores them on the run's tokens.

Every outcome is a stage in the store, keyed by text, settings and weights, and models of equal size
are runs. So an interrupted command resumes, and stored outcomes are reused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import eval_fields, run_key
from retro_lab.config.rival_rules import applicable_rivals
from retro_lab.config.schema import Bm25RetrieverConfig
from retro_lab.evaluation.compressors.outcome import Outcome
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.environment import environment
from retro_lab.retrieval.search.registry import load_retriever
from retro_lab.run.compared import Compared
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.compressors import ngram_outcome, xz_outcome
from retro_lab.run.finished import FinishedRun
from retro_lab.run.page import write_page
from retro_lab.run.timing import Stopwatch

from . import (
    dynamic_evaluation,
    ensemble,
    intermediate,
    knn_lm,
    memory_decoder,
    ralm,
    report,
    ttt_neighbours,
)
from .matched import matched, matched_table, parameters
from .matched_runs import matched_outcome
from .own_rows import own_entries
from .report import Board, Entry
from .rival_session import RivalSession, size_of
from .token_file import save_tokens


def run_rivals(opened: FinishedRun, compared: Compared, watch: Stopwatch) -> None:
    """Writes rivals.json and rivals.parquet beside the evaluation's results, and its page.

    With `eval.tokens=true` it also writes rivals_tokens.parquet.

    Args:
        opened: an evaluated run, and the requested evaluation.
        compared: includes the baseline, which most rivals use; a run without retrieval is its own.

    Raises:
        UserError: the run's baseline is missing, or there are too few documents.
    """
    config, run = opened.config, opened.directory
    runs = {**compared, "on": run} if config.retriever.retrieves else {"baseline": run}
    if "baseline" not in runs:
        raise UserError(
            f"the baseline of {run.path} is missing, and most rivals are made of it",
            fix="run the train.py command again; it trains the baseline",
        )
    session = RivalSession(config, opened.graph, runs, watch)
    out = opened.results_in
    table = ChunkTable.load(out.chunks_file)
    entries = own_entries(session, table)
    for name in session.asked.names(applicable_rivals(config)):
        with watch.stage(name):
            entries += _RIVALS[name](session)
    board = Board(session.text.test, session.text.subsample, table)
    report.save(out.path, board, entries, _common_fields(session, run, board))
    if config.eval.wants_tokens:
        save_tokens(out.path, board, entries)
    write_page(out)


def _ralm(session: RivalSession) -> list[Entry]:
    """RALM, one entry a stride; small strides are tuned and scored on less text."""
    asked, own = session.asked.ralm, session.config.retriever
    bm25 = own if isinstance(own, Bm25RetrieverConfig) else Bm25RetrieverConfig(name="bm25")
    entries = []
    for stride in sorted(asked.strides, reverse=True):
        subset, tuned_on = session.text.for_stride(stride)
        name = f"ralm_{stride}"
        settings = {
            "stride": stride,
            "query_lengths": asked.query_lengths,
            "continuations": asked.continuations,
            "k1": bm25.k1,
            "b": bm25.b,
        }
        score = partial(_score_ralm, session, bm25, stride, subset, tuned_on)
        outcome = session.kept(name, subset, settings, session.weights, score, tuned_on)
        entries.append(Entry(name, f"RALM s={stride}", subset, outcome))
    return entries


def _score_ralm(
    session: RivalSession,
    bm25: Bm25RetrieverConfig,
    stride: int,
    subset: Subset,
    tuned_on: Subset,
) -> Outcome:
    asked, model = session.asked.ralm, session.model
    index = session.graph.index(bm25).artifact
    retriever = load_retriever(bm25, index.path)
    tuning = ralm.tune(
        model,
        retriever,
        tuned_on,
        stride,
        asked.query_lengths,
        asked.continuations,
        session.batch,
    )
    outcome = ralm.score(model, retriever, subset, stride, tuning, session.batch)
    outcome = dataclasses.replace(outcome, datastore_bytes=size_of(index))
    return _with_seconds(outcome, tuning.seconds, tuned_on_documents=len(tuned_on.documents))


def _equal_parameters(session: RivalSession) -> list[Entry]:
    """A model without retrieval with as many parameters as RETRO."""
    match = matched(session.retro, parameters)
    outcome = matched_outcome(session, "equal_parameters", match)
    return [Entry("equal_parameters", "equal params", session.text.test, outcome)]


def _equal_flops(session: RivalSession) -> list[Entry]:
    """A model without retrieval with as many FLOPs a token as RETRO."""
    match = matched(session.retro, session.flops)
    outcome = matched_outcome(session, "equal_flops", match)
    return [Entry("equal_flops", "equal FLOPs", session.text.test, outcome)]


def _ngram_table(session: RivalSession) -> list[Entry]:
    """The baseline with a table of hashed n-grams, of as many parameters as RETRO."""
    outcome = matched_outcome(session, "ngram_table", matched_table(session.retro))
    return [Entry("ngram_table", "n-gram table", session.text.test, outcome)]


def _ngram(session: RivalSession) -> list[Entry]:
    """A PPM-like byte n-gram of the training split and the document so far."""
    text = session.text
    outcome = ngram_outcome(session.graph, text, session.asked.ngram)
    return [Entry("ngram", "byte n-gram", text.test, outcome)]


def _xz(session: RivalSession) -> list[Entry]:
    """xz on each document after the training split."""
    outcome = xz_outcome(session.graph, session.text)
    return [Entry("xz", "xz", session.text.test, outcome)]


_RIVALS: dict[str, Callable[[RivalSession], list[Entry]]] = {
    "knn_lm": knn_lm.entries,
    "ralm": _ralm,
    "equal_parameters": _equal_parameters,
    "equal_flops": _equal_flops,
    "ngram": _ngram,
    "xz": _xz,
    "dynamic_evaluation": dynamic_evaluation.entries,
    "ensemble": ensemble.entries,
    "ttt_neighbours": ttt_neighbours.entries,
    "intermediate": intermediate.entries,
    "ngram_table": _ngram_table,
    "memory_decoder": memory_decoder.entries,
}


def _common_fields(session: RivalSession, run: RunDirectory, board: Board) -> dict[str, Any]:
    """Fields of rivals.json that are common to all rows."""
    config, text, ids = session.config, session.text, session.graph.corpus.ids
    evaluation = config.eval

    def named(subset: Subset) -> dict[str, Any]:
        return {
            "split": subset.split,
            "documents": [ids[d] for d in subset.documents.tolist()],
            "tokens": int(subset.tokens.sum()),
            "bytes": int(subset.bytes.sum()),
        }

    return {
        "run_key": run_key(config),
        "evaluation": eval_fields(evaluation),
        "settings": asdict(session.asked),
        "environment": environment(),
        "bootstrap": {
            "samples": evaluation.bootstrap_samples,
            "confidence": evaluation.confidence,
            "seed": evaluation.seed,
        },
        "window": config.chunking.sequence_length,
        "stride": text.test.stride,
        "scored": named(text.test),
        "tuned_on": named(text.tuning),
        "subsample": named(text.subsample) | {"seed": evaluation.seed},
        "run": str(run.path),
        "compared_with": board.reference and label(board.reference),
        "plain": label(board.plain),
        "exact": board.table.exact is not None,
    }


def _with_seconds(outcome: Outcome, seconds: float, **facts: Any) -> Outcome:
    """The outcome with further seconds and facts added."""
    total = round(outcome.seconds + seconds, 1)
    return dataclasses.replace(outcome, seconds=total, facts=outcome.facts | facts)

"""Contract of `eval.max_run`: a finished run reads the next candidate in place of a leaky one, from
the table that `neighbours.max_run` would have given it; a leak stops paying and other text scores
as it did; the score is kept, and taken again only under another filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from golden import PLANTED, Golden
from run_stages import stages_of

from retro_lab.commands.evaluate import evaluate, main
from retro_lab.commands.summary import show_results
from retro_lab.config.errors import UserError
from retro_lab.config.schema import EvaluateConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory


def filtered(golden: Golden, run: RunDirectory, max_run: int | None, **more: int) -> Results:
    """The run's results, evaluated with this filter."""
    evaluation = replace(golden.config().eval, max_run=max_run, **more)
    evaluate(EvaluateConfig(run=str(run.path), eval=evaluation))
    return Results.load(run.results_file)


def test_a_leak_stops_paying_and_other_text_scores_as_it_did(
    golden: Golden, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    results = filtered(golden, run, 8)
    table = ChunkTable.load(run.chunks_file)
    graph = DataGraph(golden.config("eval.max_run=8"))
    retriever, k = graph.groups.retriever, graph.groups.neighbours.k
    chunks = graph.own.chunks.data
    before, after = (
        graph.neighbours(retriever, filters).data.ids[:, :k]
        for filters in (graph.filters, graph.stricter_filters(8))
    )
    ids = graph.own.corpus.data.ids
    moved = {ids[d] for d in chunks.document[: len(before)][(before != after).any(axis=1)]}
    assert set(PLANTED) <= moved
    unmoved = ~np.isin(table.document_id, list(moved))
    assert unmoved.any()
    per_token = {name: nats / table.tokens for name, nats in table.nats.items()}
    assert per_token["filtered"][unmoved] == pytest.approx(per_token["on"][unmoved], rel=1e-6)
    reads = np.isin(table.document_id, PLANTED) & (table.chunk_index > 0)
    on, left, off = (per_token[name][reads].mean() for name in ("on", "filtered", "off"))
    assert on < 0.2 * off
    assert left == pytest.approx(off, rel=0.05), "nothing is left to copy"
    capsys.readouterr()
    show_results(run, verbose=True)
    assert "RETRO[filtered] minus plain" in " ".join(capsys.readouterr().out.split())
    assert "a run of 8 or more tokens" in (run.path / "index.html").read_text()
    assert results.evaluation.max_run == 8


def test_the_table_is_that_of_a_run_with_the_filter(golden: Golden) -> None:
    def key(*overrides: str, stricter: bool = True) -> str:
        graph = DataGraph(golden.config(*overrides))
        config = golden.config(*overrides)
        run = config.scored_max_run
        filters = graph.stricter_filters(run) if stricter else graph.filters
        return graph.neighbours(graph.groups.retriever, filters).stage.key

    asked = key("eval.max_run=8")
    assert asked == key("neighbours.max_run=8", stricter=False)
    assert asked != key("eval.max_run=8", stricter=False)
    assert asked == key("eval.max_run=8", "neighbours.max_run=16")
    assert asked == key("eval.max_run=16", "neighbours.max_run=8")
    dedup = "neighbours.dedup=0.8"
    assert key("eval.max_run=8", dedup) == key("neighbours.max_run=8", dedup, stricter=False)
    assert asked in {stage.key for stage in stages_of(golden.config("eval.max_run=8"))}


def test_the_score_is_kept_and_taken_again_under_another_filter(
    golden: Golden, run: RunDirectory, scored: Callable[[], list[str]]
) -> None:
    for file in (run.results_file, run.chunks_file):
        file.unlink()
    run.forget_evaluation()
    first = filtered(golden, run, 8).metrics["test"]["filtered"]
    assert "filtered" in scored()
    assert filtered(golden, run, 8, bootstrap_samples=20).metrics["test"]["filtered"] == first
    kept = filtered(golden, run, None)
    assert (kept.metrics["test"]["filtered"], kept.evaluation.max_run) == (first, 8)
    assert filtered(golden, run, 8).metrics["test"]["filtered"] == first
    assert scored() == []
    other = filtered(golden, run, 2)
    assert (scored(), other.evaluation.max_run) == (["filtered"], 2)
    assert other.metrics["test"]["filtered"] != first


def test_a_filter_that_leaves_too_little_is_said_before_anything_is_scored(
    golden: Golden, run: RunDirectory, scored: Callable[[], list[str]]
) -> None:
    with pytest.raises(UserError, match=r"^eval\.max_run=1: only .* are filled") as caught:
        filtered(golden, run, 1, seed=9)
    assert "raise eval.max_run" in str(caught.value.fix)
    assert scored() == []


@pytest.mark.parametrize(("value", "says"), [("0", "must be at least 1"), ("33", "32 tokens")])
def test_a_value_that_cannot_be_is_one_message(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], value: str, says: str
) -> None:
    assert main([f"run={run.path}", f"eval.max_run={value}"]) == 2
    error = capsys.readouterr().err
    assert f"eval.max_run={value}" in error
    assert says in error
    assert "Traceback" not in error

"""Contract: a run searches with a retriever from outside the package as with any other; reader and
embedder alike; and its evaluation asks before it imports what a stranger's run names.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from golden import Golden

from retro_lab.commands.evaluate import evaluate
from retro_lab.config.consent import TRUST
from retro_lab.config.errors import UserError
from retro_lab.config.schema import EvalConfig, EvaluateConfig, MetricsConfig
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.own_metrics import EarlierFigures
from retro_lab.run.finished import FinishedRun
from retro_lab.training.publish import last_figures

OVERLAP = "word_overlap:WordOverlap"
OWN = (
    *("retriever=custom", f"retriever.cls={OVERLAP}", "memory=none"),
    "eval.metrics.cls=[worst_chunks:worst_chunks]",
)


@pytest.fixture(scope="module")
def searched(golden: Golden, trained: RunDirectory) -> RunDirectory:
    return golden.run(*OWN)


def test_a_run_reads_what_its_own_retriever_finds(searched: RunDirectory) -> None:
    results = FinishedRun.open(searched).results()
    assert results.metrics["test"]["on"].tokens == results.metrics["test"]["baseline"].tokens
    coverage = results.data.coverage
    assert coverage is not None
    assert min(coverage.values()) > 0.9


def test_an_own_metric_stands_in_the_results_and_the_curves(searched: RunDirectory) -> None:
    results = FinishedRun.open(searched).results()
    assert results.custom is not None
    share = results.custom["worst_chunks"]["on"]
    assert 0.1 <= share < 1
    assert last_figures(searched.path)["test/custom/worst_chunks/on"] == pytest.approx(share)


def test_an_evaluation_without_the_metric_keeps_its_figures(
    searched: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = shutil.copytree(searched.path.parent, tmp_path / "runs")  # with those compared
    run = RunDirectory(runs / searched.path.name)
    own, custom = run.config().eval, FinishedRun.open(searched).results().custom
    monkeypatch.setenv(TRUST, OVERLAP)
    evaluate(EvaluateConfig(run=str(run.path), eval=replace(own, metrics=MetricsConfig())))
    results = FinishedRun.open(run).results()
    assert results.config["eval"]["metrics"]["cls"] == []
    assert results.custom == custom, "the same chunks have the same scores"
    earlier = EarlierFigures.of(run)
    assert earlier.still_valid(run.chunks_file) == custom
    assert earlier.still_valid(run.results_file) is None, "other bytes, so perhaps other scores"


def test_another_class_or_setting_has_neighbours_of_its_own(
    golden: Golden, searched: RunDirectory
) -> None:
    keys = []
    for setting in ({}, {"at_least": 1}):
        config = golden.config("retriever=custom", "retriever.cls=own_parts:Sharing")
        config.retriever.settings = setting  # type: ignore[attr-defined]
        keys.append(DataGraph(config).own_neighbours.stage.key)
    keys.append(searched.lineage["neighbours"])
    assert len(set(keys)) == 3


def test_a_strangers_class_is_not_imported_by_an_evaluation(
    searched: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / searched.path.name
    shutil.copytree(searched.path, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(OVERLAP, "strangers_file:Strangers"))
    monkeypatch.delenv(TRUST, raising=False)
    asked = EvaluateConfig(run=str(run), eval=EvalConfig(random=True, bootstrap_samples=50))
    asked.eval.reference = type(asked.eval.reference).own_neighbours
    asked.eval.overlap_neighbours = 3
    with pytest.raises(UserError, match=f"{TRUST}=strangers_file:Strangers"):
        evaluate(asked)


def test_own_reader_and_embedder_make_the_data(golden: Golden, tmp_path: Path) -> None:
    verses = tmp_path / "verses.txt"
    verses.write_text("\n\n".join(f"verse number {n} of a long song " * 20 for n in range(60)))
    own = ["corpus=custom", "corpus.cls=verses:VerseReader", f"corpus.settings.path={verses}"]
    own += ["retriever=faiss_flat", "embedder=custom", "embedder.cls=letters:Letters"]
    others = [o for o in golden.overrides if not o.startswith("corpus")]
    config = Golden(golden.folder, golden.corpus, tuple(others)).config(*own, "memory=none")
    graph = DataGraph(config)
    graph.prepare()
    assert graph.corpus.num_documents == 60
    assert graph.corpus.ids[0] == "verse 1"
    assert graph.own.embeddings.data.dim == 32

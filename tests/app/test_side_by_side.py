"""Contract of a run's evaluations: each kind has a folder and none is written over by another; they
share their scores; the run's own results stay at the top; training anew forgets them all.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden import Golden, evaluation_of
from observed import scored_conditions

from retro_lab.commands.evaluate import evaluate, main
from retro_lab.commands.train import main as train_main
from retro_lab.commands.train import train
from retro_lab.config.schema import EvalConfig, EvaluateConfig, PlantedDatabaseConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.run.directory import RunDirectory
from retro_lab.sweeps.report import report, report_sweep


def option(golden: Golden, *more: str) -> EvalConfig:
    return golden.config(*more, "debug=fast").eval


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a directory of results, without those of other evaluations below it."""
    files = (path for path in folder.iterdir() if path.is_file() and path.suffix != ".lock")
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def looked(golden: Golden, run: RunDirectory) -> RunDirectory:
    """A copy of the golden run, after a look at its text."""
    (run.path / "index.html").unlink()
    inspect = option(golden, "eval=inspect", "eval.pages=1")
    evaluate(EvaluateConfig(run=str(run.path), eval=inspect))
    return run


def test_a_look_leaves_the_runs_own_results_and_lists_itself_there(
    looked: RunDirectory, finished: RunDirectory
) -> None:
    for name in ("results.json", "chunks.parquet", "evaluation.json", "gain.json", "status.json"):
        assert (looked.path / name).read_bytes() == (finished.path / name).read_bytes(), name
    assert not (looked.path / "inspect.html").exists()
    assert (looked.path / "index.html").is_file(), "written anew after the look"
    inspect = evaluation_of(looked, "inspect")
    assert looked.evaluations == [inspect]
    assert {"inspect.html", "tokens.parquet", "index.html"} <= contents(inspect.path).keys()


def test_a_plain_command_leaves_the_look_and_names_the_settings_that_change(
    looked: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "retro_lab")
    inspect = evaluation_of(looked, "inspect")
    before, own = contents(inspect.path), looked.config().eval
    with scored_conditions() as scored:
        evaluate(EvaluateConfig(run=str(looked.path), eval=replace(own, bootstrap_samples=51)))
    said = f"replacing the results in {looked.path}, which were made with other settings: "
    was = f"eval.bootstrap_samples was {own.bootstrap_samples}, is 51"
    assert f"{said}{was}" in caplog.messages
    caplog.clear()
    with scored_conditions() as again:
        evaluate(EvaluateConfig(run=str(looked.path), eval=replace(own, bootstrap_samples=51)))
    assert "replacing" not in caplog.text
    assert scored == again == []
    assert contents(inspect.path) == before
    results = Results.load(looked.results_file)
    assert results.leakage.bootstrap.samples == 51
    assert results.config["eval"]["name"] == own.name


def test_another_kind_runs_the_model_only_for_what_none_has_scored(
    golden: Golden, looked: RunDirectory
) -> None:
    probes = option(golden, "eval=probes")
    given = [f"eval.{name}=true" for name in ("shuffled", "oracle", "without_pointer")]
    asked = option(golden, "eval=ppl", *given)
    with scored_conditions() as scored:
        evaluate(EvaluateConfig(run=str(looked.path), eval=probes))
        assert scored == ["shuffled", "oracle", "on_without_pointer"]
        evaluate(EvaluateConfig(run=str(looked.path), eval=asked))
    assert scored == ["shuffled", "oracle", "on_without_pointer"]
    first, second = (
        ChunkTable.load(evaluation_of(looked, name).chunks_file).nats for name in ("probes", "ppl")
    )
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_another_split_has_a_folder_and_is_reported_too(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    before = copy.results_file.read_bytes()
    asked = option(golden, "eval=leakage", "eval.split=validation")
    evaluate(EvaluateConfig(run=str(copy.path), eval=asked))
    assert copy.results_file.read_bytes() == before
    out = evaluation_of(copy, "leakage-validation")
    assert Results.load(out.results_file).evaluation.split == "validation"
    report([copy.path])
    rows = list(csv.DictReader((copy.path.parent / "report.csv").open()))
    assert sorted(row["split"] for row in rows) == ["test", "validation"]
    assert all(row["training_flops"] for row in rows)


def test_a_sweep_reports_what_it_asked_of_a_run_and_nothing_older(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where that is of another kind than the run's own evaluation, on the test split."""
    point = golden.config("eval=ppl", "eval.split=validation", f"runs_dir={copy.path.parent}")
    evaluate(EvaluateConfig(run=str(copy.path), eval=point.eval))
    capsys.readouterr()
    report_sweep(copy.path.parent, [point])
    said = capsys.readouterr().out
    assert "validation split: 1 run" in said
    assert "test split" not in said


def test_evaluations_with_another_database_lie_below_it(golden: Golden, copy: RunDirectory) -> None:
    database = PlantedDatabaseConfig(plant_share=1.0)
    own, ppl = copy.config().eval, option(golden, "eval=ppl")
    evaluate(EvaluateConfig(run=str(copy.path), eval=own, database=database))
    folder = copy.for_database(database)
    before = contents(folder.path)
    with scored_conditions() as scored:
        evaluate(EvaluateConfig(run=str(copy.path), eval=ppl, database=database))
    assert scored == [], "read from the same database's scores"
    assert {**contents(folder.path), "index.html": b""} == {**before, "index.html": b""}
    assert copy.evaluations == []
    assert folder.config().eval == own
    other = evaluation_of(folder, "ppl")
    on = [ChunkTable.load(each.chunks_file).nats["on"] for each in (copy, folder, other)]
    assert np.array_equal(on[1], on[2])
    assert not np.array_equal(on[0], on[1])
    copy.begin(copy.config(), anew=True)
    assert copy.evaluation is folder.evaluation is other.evaluation is None


def test_a_run_that_is_trained_anew_forgets_every_kind(
    golden: Golden, looked: RunDirectory, tmp_path: Path
) -> None:
    shutil.copytree(looked.path, tmp_path / looked.path.name)
    run = RunDirectory(tmp_path / looked.path.name)
    assert run.evaluations
    run.begin(run.config(), anew=True)
    assert run.evaluations == []


def test_train_with_another_eval_on_a_finished_run_only_evaluates(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy.path)
    config = golden.config("eval=ppl", "debug=fast", f"runs_dir={copy.path.parent}")
    with scored_conditions() as scored:
        objective = train(config)
        assert train(config) == objective, "finished already"
    assert scored == []
    after = contents(copy.path)
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {"run.log", "metrics.jsonl", "status.json", "index.html", "checksums.json"}
    out = evaluation_of(copy, "ppl")
    score = Results.load(out.results_file).metrics["test"]["on"]
    assert objective == pytest.approx(score.bpb)
    assert str(out.results_file) in capsys.readouterr().out


def test_a_run_that_was_never_evaluated_gets_its_own_results_from_train(
    golden: Golden, copy: RunDirectory
) -> None:
    """As one that was killed after its training."""
    for name in ("results.json", "chunks.parquet", "evaluation.json", "index.html"):
        (copy.path / name).unlink()
    copy.enter("trained")
    evaluate(EvaluateConfig(run=str(copy.path), eval=option(golden, "eval=ppl")))
    assert copy.state == "trained"
    assert not copy.results_file.exists()
    assert not (copy.path / "index.html").exists()
    with scored_conditions() as scored:
        train(golden.config(f"runs_dir={copy.path.parent}"))
    assert scored == []
    assert copy.state == "finished"
    assert Results.load(copy.results_file).config["eval"]["name"] == "leakage"


@pytest.mark.parametrize("name", ["..", "a/b"])
def test_a_name_that_is_no_folder_is_one_message(
    golden: Golden, looked: RunDirectory, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, arguments in (
        (main, [f"run={looked.path}", f"eval.name={name}"]),
        (train_main, [*golden.overrides, f"eval.name={name}"]),
    ):
        assert command(arguments) == 2
        said = capsys.readouterr().err
        assert said.count(f"eval.name={name}") == 1
        assert "directory's name" in said


def test_runs_may_lie_in_a_folder_of_that_name(copy: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(copy.path, tmp_path / "evaluations" / copy.path.name)
    run = RunDirectory(tmp_path / "evaluations" / copy.path.name)
    assert run.base is run
    assert evaluation_of(run, "ppl").base == run

"""Contract: after one command W&B's file of a run holds its configuration, curves and result, a
later evaluation goes on in the same run, and a sweep's agent gets the run that it asked for.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from golden import Golden
from wandb_files import history, offline_files, one, records, summary, without_login

from retro_lab.commands.evaluate import evaluate
from retro_lab.commands.train import train
from retro_lab.config.fingerprints import baseline_of
from retro_lab.config.schema import Config, EvalConfig, EvaluateConfig
from retro_lab.evaluation.records.figures import figures
from retro_lab.evaluation.records.results import Results
from retro_lab.run.directory import RunDirectory
from retro_lab.training.loggers import METRICS, read_metrics

AGENT = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "agentrun"}


@dataclass(frozen=True)
class Logged:
    """A finished run, and what W&B's files of it hold: of its training and of its evaluation."""

    run: RunDirectory
    baseline: RunDirectory
    config: Config
    training: list[dict[str, Any]]
    evaluation: list[dict[str, Any]]


@pytest.fixture(scope="module")
def logged(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """Trained as by an agent of a sweep, on a machine without a login."""
    folder = tmp_path_factory.mktemp("wandb")
    config = golden.config(
        f"runs_dir={folder / 'runs'}",
        "logger=[wandb,csv]",
        "logger.wandb.tags=[one,two]",
        "logger.wandb.notes=a note",
    )
    run, baseline = RunDirectory.of(config), RunDirectory.of(baseline_of(config))
    with without_login(folder) as environment:
        for name, value in AGENT.items():
            environment.setenv(name, value)
        train(config)
        for name in AGENT:
            environment.delenv(name)
        training, evaluation = map(records, offline_files(run.path))
        yield Logged(run, baseline, config, training, evaluation)


def flat(item: dict[str, Any], name: str) -> dict[str, Any]:
    """What was logged under a name that has parts of its own: an image, a table."""
    return {k.removeprefix(f"{name}."): v for k, v in item.items() if k.startswith(f"{name}.")}


def test_the_run_says_what_it_is(logged: Logged) -> None:
    run = one(logged.training, "run")
    assert (run["run_id"], run["sweep_id"]) == ("agentrun", "sweep1")
    assert (run["display_name"], run["job_type"]) == (logged.run.path.name, "retro")
    assert (run["tags"], run["notes"]) == (["one", "two"], "a note")
    assert not run.get("resume")
    config = run["config"]["update"]
    assert config["schedule"]["steps"] == logged.config.schedule.steps
    assert config["retriever"]["name"] == "bm25"
    assert config["lineage"] == logged.run.lineage
    assert config["parameters"]["total"] > config["parameters"]["retrieval"] > 0
    assert config["run_key"].startswith(logged.run.path.name[-8:])


def test_the_baseline_is_a_run_of_its_own_in_the_same_group(logged: Logged) -> None:
    mine = one(records(offline_files(logged.baseline.path)[0]), "run")
    assert mine["run_id"] == logged.baseline.path.name[-8:]
    assert (mine["job_type"], mine.get("sweep_id")) == ("baseline", None)
    assert mine["run_group"] == one(logged.training, "run")["run_group"]
    assert mine["config"]["update"]["parameters"]["retrieval"] == 0


def test_curves_are_there_against_steps_and_tokens(logged: Logged) -> None:
    rows = [row for row in history(logged.training) if "train/loss" in row]
    known = [line for line in read_metrics(logged.run.path / METRICS) if "train/loss" in line]
    for name, step in (("train/loss", "trainer/global_step"), ("tokens_seen", "tokens_seen")):
        theirs = [(row[step], row[name]) for row in rows]
        assert theirs == [(line.get(step, line["step"]), line[name]) for line in known]
    metrics = [r["metric"] for r in logged.training if r["type"] == "metric"]
    assert {m.get("glob_name"): m.get("step_metric") for m in metrics}["*"] == "trainer/global_step"


def test_the_evaluation_goes_on_in_the_same_run(logged: Logged) -> None:
    begun, gone_on = (one(part, "run") for part in (logged.training, logged.evaluation))
    same = ("run_id", "project", "run_group", "job_type", "display_name")
    assert [begun[name] for name in same] == [gone_on[name] for name in same]
    assert gone_on["resume"] is True, "or wandb sync would replace the curves by the result"


def test_the_summary_holds_every_figure_the_verdict_and_the_last_of_the_curves(
    logged: Logged,
) -> None:
    found = summary(logged.evaluation)
    results = Results.load(logged.run.results_file)
    figured = figures(results)
    assert len(figured) >= 15
    assert {name: found[name] for name in figured} == figured
    assert found["test/verdict"].count("\n") >= 2
    curves = [line for line in read_metrics(logged.run.path / METRICS) if "train/loss" in line]
    assert found["train/loss"] == curves[-1]["train/loss"]


def test_table_chart_picture_and_files_are_there(logged: Logged) -> None:
    [row] = [row for row in history(logged.evaluation) if "test/leakage/plot._type" in row]
    files = offline_files(logged.run.path)[1].parent / "files"
    image = flat(row, "test/leakage/plot")
    png = (files / image["path"]).read_bytes()
    assert png == (logged.run.path / "leakage.png").read_bytes()
    table = json.loads((files / flat(row, "test/leakage/table")["path"]).read_text())
    results = Results.load(logged.run.results_file)
    column = table["columns"].index("on")
    assert [line[column] for line in table["data"]] == [p.bpb for p in results.leakage.curves["on"]]
    chart = json.loads((files / flat(row, "test/leakage/bpb_table")["path"]).read_text())
    measured = [
        p for points in results.leakage.curves.values() for p in points if p.bpb is not None
    ]
    assert len(chart["data"]) == len(measured)
    artifacts = [r["artifact"] for r in logged.evaluation if r["type"] == "artifact"]
    [artifact] = [a for a in artifacts if a["type"] == "evaluation"]
    places = {c["path"]: Path(c["local_path"]) for c in artifact["manifest"]["contents"]}
    for name in ("results.json", "chunks.parquet"):
        assert places[name].is_absolute(), "wandb sync may be started in any folder"
        assert places[name].read_bytes() == (logged.run.path / name).read_bytes()


def test_the_table_of_curves_has_the_same_figures(logged: Logged) -> None:
    with (logged.run.path / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    figured = figures(Results.load(logged.run.results_file))
    assert {name: float(last[name]) for name in figured} == figured


def test_tokens_of_the_backbone_count_as_seen(logged: Logged) -> None:
    of_baseline = [line["tokens_seen"] for line in read_metrics(logged.baseline.path / METRICS)]
    own = [line["tokens_seen"] for line in read_metrics(logged.run.path / METRICS)]
    assert own[0] > of_baseline[-1] > of_baseline[0] > 0
    assert own == sorted(own)


def test_the_second_phase_is_validated_several_times(logged: Logged) -> None:
    lines = read_metrics(logged.run.path / METRICS)
    steps = [line["step"] for line in lines if "val/on/bpb" in line]
    assert len(steps) == 4
    assert steps[-1] == logged.config.recipe.steps


def test_a_later_evaluation_finds_the_run_again(logged: Logged) -> None:
    before = offline_files(logged.run.path)
    command = EvaluateConfig(run=str(logged.run.path), eval=EvalConfig(split="validation"))
    command.eval.bootstrap_samples = 20
    evaluate(command)
    [added] = set(offline_files(logged.run.path)) - set(before)
    found = records(added)
    run = one(found, "run")
    assert (run["run_id"], run["resume"]) == ("agentrun", True)
    assert run["config"]["update"]["eval"]["split"] == "validation"
    assert {"validation/on/bpb", "validation/verdict"} <= summary(found).keys()


def test_an_agent_that_asks_for_a_finished_run_gets_its_figures(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep2")
    monkeypatch.setenv("WANDB_RUN_ID", "second")
    command = EvaluateConfig(run=str(logged.run.path), eval=logged.config.eval)
    evaluate(command)  # as it was, whatever another test evaluated
    before = offline_files(logged.run.path)
    train(logged.config)
    [added] = set(offline_files(logged.run.path)) - set(before)
    found = records(added)
    run = one(found, "run")
    assert (run["run_id"], run["sweep_id"]) == ("second", "sweep2")
    assert "test/on/bpb" in summary(found)


def test_a_run_without_wandb_is_evaluated_without_it(golden: Golden, run: RunDirectory) -> None:
    command = EvaluateConfig(run=str(run.path), eval=EvalConfig(alphas=[0.5, 1.0]))
    command.eval.bootstrap_samples = 20
    evaluate(command)
    assert not (run.path / "wandb").exists()
    assert not (run.path / "wandb.json").exists()

"""Contract: the same command over text that changed says which files did and what to do, before
anything is built, trained, shown or overwritten; whatever the run's state is.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

import pytest
from golden import Golden

from retro_lab.commands.evaluate import evaluate
from retro_lab.commands.train import train
from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of, eval_fields
from retro_lab.config.schema import (
    Config,
    CorpusDatabaseConfig,
    EvaluateConfig,
    JsonlCorpusConfig,
)
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import run_experiment
from retro_lab.run.timing import Stopwatch

MORE = b'{"id": "one-more", "text": "abcd bcde"}\n'


@pytest.fixture
def folder(golden: Golden, tmp_path: Path) -> Path:
    """A corpus of two files."""
    path = tmp_path / "texts"
    path.mkdir()
    lines = (golden.corpus / "corpus.jsonl").read_bytes().splitlines(keepends=True)
    (path / "a.jsonl").write_bytes(b"".join(lines[:30]))
    (path / "b.jsonl").write_bytes(b"".join(lines[30:]))
    return path


@pytest.fixture
def config(golden: Golden, folder: Path, tmp_path: Path) -> Config:
    return golden.config(f"corpus.path={folder}", f"runs_dir={tmp_path / 'runs'}")


def begun(config: Config, state: str) -> RunDirectory:
    """A run whose data is prepared, said to be that far."""
    run = RunDirectory.of(config)
    run.begin(config, anew=True)
    run.check_lineage(DataGraph(config).prepare())
    run.enter(state)
    return run


def test_a_half_trained_run_names_the_files(config: Config, folder: Path) -> None:
    run = begun(config, "training")
    known, stored = run.lineage, sorted(Path(config.store.dir).glob("*/*"))
    with (folder / "a.jsonl").open("ab") as file:
        file.write(MORE)
    (folder / "c.jsonl").write_bytes((folder / "b.jsonl").read_bytes())
    (folder / "b.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        run_experiment(config, Stopwatch())
    assert caught.value.message == (
        f"the text behind {run.path} is not what it was made from: a.jsonl has another content; "
        "b.jsonl is no longer there; c.jsonl is new"
    )
    assert "runs_dir=<a new folder>" in str(caught.value.fix)
    assert (run.lineage, run.state) == (known, "training")
    assert sorted(Path(config.store.dir).glob("*/*")) == stored


def test_a_finished_run_is_not_shown_for_other_text(config: Config, folder: Path) -> None:
    run = begun(config, "finished")
    run.results_file.touch()
    run.chunks_file.touch()
    run.record_evaluation(eval_fields(config.eval))
    (folder / "a.jsonl").write_bytes(MORE)
    with pytest.raises(UserError, match=r"a\.jsonl has another content"):
        train(config)


def test_a_baseline_of_other_text_is_said_first(config: Config, folder: Path) -> None:
    run = RunDirectory.of(baseline_of(config))
    run.begin(baseline_of(config), anew=True)
    run.check_lineage(DataGraph(config).text_lineage)
    _ = DataGraph(config).own.corpus.data
    (folder / "a.jsonl").write_bytes(MORE)
    with pytest.raises(UserError, match=rf"{run.path.name} is not what.*a\.jsonl has another"):
        run_experiment(config, Stopwatch())
    assert not RunDirectory.of(config).config_file.exists()


def test_text_that_is_gone_does_not_hide_results(
    config: Config, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from retro_lab.run.data.changed_text import check_unchanged_if_readable

    run = begun(config, "finished")
    shutil.rmtree(folder)
    with caplog.at_level(logging.WARNING, "retro_lab"):
        check_unchanged_if_readable(run, DataGraph(config), "a fix")
    assert "changed is unknown" in caplog.text
    assert f"corpus.path={folder}: no such file" in caplog.text


def test_another_database_of_other_text_is_not_evaluated_over_the_first(
    golden: Golden, finished: RunDirectory, tmp_path: Path
) -> None:
    for path in (golden.baseline().path, finished.path):
        shutil.copytree(path, tmp_path / "runs" / path.name)
    run = RunDirectory(tmp_path / "runs" / finished.path.name)
    other = tmp_path / "other.jsonl"
    lines = (golden.corpus / "corpus.jsonl").read_bytes().splitlines(keepends=True)
    other.write_bytes(b"".join(lines[:20]))
    database = CorpusDatabaseConfig(corpus=JsonlCorpusConfig(path=str(other)))
    evaluation = dataclasses.replace(run.config().eval, leakage=False, random=False)
    command = EvaluateConfig(run=str(run.path), eval=evaluation, database=database)
    evaluate(command)
    out = run.for_database(database)
    before = out.results_file.read_bytes()
    with other.open("ab") as file:
        file.write(MORE)
    with pytest.raises(UserError, match=r"other\.jsonl has another content") as caught:
        evaluate(command)
    assert f"move {out.path} away" in str(caught.value.fix)
    assert out.results_file.read_bytes() == before

"""Contract: what happens to a run's directory while it is used. Started again from nothing and
killed, it trains from nothing; a run that can only be read is read; stored data that is removed
under a command is named; curves, scores and figures are used as they were written or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from golden import Golden

from retro_lab.__main__ import main as retro_lab
from retro_lab.commands.evaluate import evaluate
from retro_lab.config.refusals import refusal
from retro_lab.config.schema import EvaluateConfig
from retro_lab.evaluation.records.results import Results
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import run_experiment
from retro_lab.run.timing import Stopwatch
from retro_lab.training.checkpoint import resumable_step
from retro_lab.training.loggers import METRICS, read_metrics


def curves(run: RunDirectory) -> list[dict]:
    """What training logged, less what differs by the clock.

    Every evaluation of a run adds its figures to the same file, and other tests evaluate this one.
    """
    records = read_metrics(run.path / METRICS)
    times = {"time", "train/tokens_per_second"}
    of_training = [r for r in records if any(k.startswith(("train/", "val/")) for k in r)]
    return [{k: v for k, v in record.items() if k not in times} for record in of_training]


class Killed(BaseException):
    pass


class Kill(Stopwatch):
    """Ends the command where it begins to train."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if name == "retrofit training":
            raise Killed
        with super().stage(name):
            yield


def test_started_again_from_nothing_and_killed_it_trains_from_nothing(
    golden: Golden, run: RunDirectory
) -> None:
    """Weights go before curves: else the old weights would be taken for a checkpoint to go on
    from, and the new run would have no curves.
    """
    here = f"runs_dir={run.path.parent}"
    expected, figures = curves(run), Results.load(run.results_file).metrics
    with pytest.raises(Killed):
        run_experiment(golden.config(here, "resume=null"), Kill())
    assert resumable_step(run.path) == 0
    assert not run.reached("trained")
    assert curves(run) == expected  # not cut yet
    run_experiment(golden.config(here), Stopwatch())
    assert run.reached("finished")
    assert curves(run) == expected
    assert Results.load(run.results_file).metrics == figures


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_generating_writes_nothing_into_the_run(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(run.path)
    assert retro_lab(["generate", f"run={run.path}", "prompt=abcd", "tokens=2"]) == 0
    assert snapshot(run.path) == before


def test_stored_data_that_was_removed_is_named(golden: Golden) -> None:
    store = golden.folder / "store"
    aside = store.with_name("aside")
    corpus = DataGraph(golden.config()).corpus
    store.rename(aside)
    try:
        with pytest.raises(FileNotFoundError) as caught:
            len(corpus.ids)
        message = str(refusal(caught.value))
        assert "is gone: it was removed while this command was using it" in message
        assert str(store / "corpus") in message
    finally:
        aside.rename(store)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("results.json", ["report", "{run}"]),
        ("status.json", ["generate", "run={run}", "prompt=a", "tokens=1"]),
        ("lineage.json", ["generate", "run={run}", "prompt=a", "tokens=1"]),
        ("checkpoints/last.ckpt", ["generate", "run={run}", "prompt=a", "tokens=1"]),
    ],
)
def test_a_flipped_bit_is_named_by_whoever_reads(
    name: str, command: list[str], run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.path / name
    written = path.read_bytes()
    flipped = bytearray(written)
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)
    assert retro_lab([part.format(run=run.path) for part in command]) == 2
    said = capsys.readouterr().err
    assert f"{path} is damaged" in said
    assert "fix: " in said
    assert "resume=null" not in said
    path.write_bytes(written)


def test_damaged_scores_are_scored_anew(
    golden: Golden, run: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    before = Results.load(run.results_file).metrics
    written = bytearray(run.chunks_file.read_bytes())
    written[len(written) // 2] ^= 1
    run.chunks_file.write_bytes(written)
    asked = golden.config("eval.confidence=0.9").eval
    evaluate(EvaluateConfig(run=str(run.path), eval=asked))
    assert "chunks.parquet is damaged" in caplog.text
    assert Results.load(run.results_file).metrics == before


def test_a_lost_status_costs_no_training(golden: Golden, run: RunDirectory) -> None:
    """As the advice for a damaged one has it."""
    (run.path / "status.json").unlink()
    steps = resumable_step(run.path)
    watch = Stopwatch()
    run_experiment(golden.config(f"runs_dir={run.path.parent}"), watch)
    assert run.reached("finished")
    assert resumable_step(run.path) == steps
    assert orjson.loads((run.path / "status.json").read_bytes())["run_key"]

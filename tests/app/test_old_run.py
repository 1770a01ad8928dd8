"""Contract: a run that version 0.1.0 made is loaded, evaluated, resumed and exported as it was.

`old_run.tar.xz` holds what that version left on disk, without plots, pages and locks: a corpus of
28 documents, a RETRO run and its baseline, their store, and under `stopped` the same RETRO run as
SIGTERM left it after step 3 of 4. It is never made anew: whoever changes what a run's directory
holds keeps this one working. It was made, in its own folder, by `train.py` with `OVERRIDES`.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from composed import config_of

from retro_lab.__main__ import main
from retro_lab.commands.evaluate import evaluate
from retro_lab.config.fingerprints import baseline_of, canonical
from retro_lab.config.rules import check
from retro_lab.config.schema import Config, EvaluateConfig
from retro_lab.evaluation.records.results import Results
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import run_experiment
from retro_lab.run.timing import Stopwatch
from retro_lab.training.loggers import METRICS, read_metrics

ARCHIVE = Path(__file__).with_name("old_run.tar.xz")
RETRO, BASELINE = Path("runs/nano-bm25-k2-s1-31ae61b9"), Path("runs/nano-none-s1-875f1a8c")
OVERRIDES = (
    "debug=fast", "corpus=jsonl", "corpus.path=corpus.jsonl", "corpus.max_bytes=null",
    *(f"corpus.split.{s}_ids={s}.txt" for s in ("train", "validation", "test")),
    "tokenizer.vocab_size=300", "model.d_model=16", "model.num_heads=1", "model.head_dim=16",
    "model.d_ff=32", "model.encoder.d_model=16", "chunking.sequence_length=64", "logger=csv",
    "trainer.threads=1", "runs_dir=runs", "store.dir=runs/.store",
)  # fmt: skip
# Another processor adds up in another order, which moves the last digits.
SAME = {"rel": 1e-5}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive's content, where the user stands."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(plain: str = "none") -> Config:
    """The command of then; that version knew no plain model."""
    config = config_of(*OVERRIDES, f"plain={plain}")
    check(config)
    return canonical(config)


def evaluate_again(run: Path) -> None:
    config = command()
    evaluate(EvaluateConfig(run=str(run), eval=config.eval, plain=config.plain))


def figures(run: Path) -> dict[str, float]:
    """Bits per byte of each condition."""
    metrics = Results.load(run / "results.json").metrics["test"]
    return {condition: score.bpb for condition, score in metrics.items()}


def losses(records: list[dict]) -> dict[int, float]:
    """Training loss by step."""
    return {line["step"]: line["train/loss"] for line in records if "train/loss" in line}


def test_the_same_command_finds_it_finished() -> None:
    config = command()
    assert RunDirectory.of(config).path == RETRO
    assert RunDirectory.of(baseline_of(config)).path == BASELINE
    assert RunDirectory.of(config).is_finished(config)


@pytest.mark.parametrize("path", [RETRO, BASELINE])
def test_its_checkpoint_loads(path: Path) -> None:
    run = RunDirectory(path)
    weights = run.weights()
    raw = torch.load(path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert weights
    assert all(torch.equal(weights[name.removeprefix("model.")], raw[name]) for name in raw)


def test_it_is_evaluated_to_the_recorded_figures() -> None:
    recorded, own = figures(RETRO), figures(BASELINE)
    for run in (RETRO, BASELINE):  # or the recorded scores would be read instead of the weights
        (run / "evaluation.json").unlink()
        for name in ("results.json", "chunks.parquet"):
            (run / name).unlink()
    for run in (BASELINE, RETRO):
        evaluate_again(run)
    assert set(recorded) == {"on", "off", "random", "baseline"}
    for run, expected in ((RETRO, recorded), (BASELINE, own)):
        found = figures(run)
        assert {name: found[name] for name in expected} == pytest.approx(expected, **SAME)


def test_recorded_results_are_read_as_they_are() -> None:
    """Without a word about the figures in the way: an evaluation asked for again does nothing."""
    before = {path: path.read_bytes() for path in RETRO.iterdir() if path.is_file()}
    evaluate_again(RETRO)
    assert {path: path.read_bytes() for path in before} == before


def test_what_was_stopped_goes_on_to_the_same_figures(folder: Path) -> None:
    curves, recorded = read_metrics(RETRO / METRICS), figures(RETRO)
    weights = RunDirectory(RETRO).weights()
    shutil.rmtree(RETRO)
    shutil.copytree(folder / "stopped", RETRO)
    run = run_experiment(command(), Stopwatch())
    assert run.path == RETRO
    assert run.state == "finished"
    resumed = run.weights()
    for name, expected in weights.items():
        torch.testing.assert_close(resumed[name], expected, rtol=1e-4, atol=1e-6)
    found = figures(RETRO)
    assert {name: found[name] for name in recorded} == pytest.approx(recorded, **SAME)
    after = read_metrics(RETRO / METRICS)
    assert losses(after) == pytest.approx(losses(curves), **SAME)
    stopped = read_metrics(folder / "stopped" / METRICS)
    assert [line["time"] for line in after[: len(stopped)]] == [line["time"] for line in stopped]


def test_the_plain_model_of_later_versions_is_added_to_it() -> None:
    recorded, trained = figures(RETRO), RunDirectory(RETRO).weights()
    run = run_experiment(command(plain="tokens"), Stopwatch())
    assert run.path == RETRO
    found = figures(RETRO)
    assert set(found) == {*recorded, "plain"}
    assert {name: found[name] for name in recorded} == pytest.approx(recorded, **SAME)
    assert all(torch.equal(weights, trained[name]) for name, weights in run.weights().items())


def test_it_is_exported(folder: Path) -> None:
    from safetensors.torch import load_file

    assert main(["export", f"run={RETRO}", "out=exported"]) == 0
    exported = load_file(folder / "exported" / "model.safetensors")
    weights = RunDirectory(RETRO).weights()
    prefix = next(iter(exported)).partition(".")[0]
    shared = [name for name in weights if f"{prefix}.{name}" in exported]
    assert len(shared) > len(weights) // 2
    assert all(torch.equal(exported[f"{prefix}.{name}"], weights[name]) for name in shared)
    for score in Results.load(RETRO / "results.json").metrics["test"].values():
        assert f"{score.bpb:.4f}" in (folder / "exported" / "README.md").read_text()

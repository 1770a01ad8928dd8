"""Contract of data parallelism: two processes train and validate like one, line for line,
also when Ctrl-C stops them on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scripts import environment

from retro_lab.training.callbacks import LAST
from retro_lab.training.checkpoint import checkpoint_folder, model_weights, resumable_step
from retro_lab.training.loggers import METRICS, read_metrics


def train(folder: Path, processes: int, interrupt: int = 0, accumulate: int = 1) -> str:
    script = Path(__file__).with_name("ddp_run.py")
    done = subprocess.run(
        [sys.executable, script, folder, *map(str, (processes, interrupt, accumulate))],
        env=environment(MASTER_ADDR="127.0.0.1"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) == bool(interrupt), done.stderr
    return done.stderr


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    train(tmp_path / "1", processes=1)
    assert "KeyboardInterrupt" in train(tmp_path / "2", processes=2, interrupt=7)
    assert resumable_step(tmp_path / "2") == 7
    train(tmp_path / "2", processes=2)
    assert_alike(tmp_path)


@pytest.mark.slow
def test_two_processes_that_accumulate_train_like_one(tmp_path):
    train(tmp_path / "1", processes=1)
    train(tmp_path / "2", processes=2, accumulate=2)
    assert_alike(tmp_path)


def assert_alike(tmp_path: Path) -> None:
    one, two = (read_metrics(tmp_path / name / METRICS) for name in ("1", "2"))
    assert [r["step"] for r in one] == [r["step"] for r in two]
    for alone, shared in zip(one, two, strict=True):
        assert alone.keys() == shared.keys()
        for name in alone.keys() - {"time", "train/tokens_per_second"}:
            assert shared[name] == pytest.approx(alone[name], rel=1e-4), (alone["step"], name)
    weights = [model_weights(checkpoint_folder(tmp_path / n) / LAST) for n in ("1", "2")]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-4), name

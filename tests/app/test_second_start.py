"""Contract: of starts of one command at once a single one works; the others are refused with exit
code 2 and touch nothing, so that no later start takes the lock of the one that works. A start of
the same run for another purpose waits, and then works.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from composed import config_of
from filelock import FileLock, Timeout
from scripts import ROOT, environment

from retro_lab.commands import launch
from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import purpose
from retro_lab.run.locked_folder import LOCK_FILE
from retro_lab.training.loggers import METRICS, read_metrics

TRAIN = ROOT / "train.py"


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def refuse(config: Config) -> None:
    """What a start does before anything else."""
    RunDirectory.of(config).acquire(wait=False).release()
    logging.getLogger("retro_lab").info("it works")
    raise UserError("but not for long")


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.stat() for path in sorted(folder.rglob("*"))}
    return {str(path): (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in found.items()}


def test_a_refused_start_touches_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Not even a directory in which the start that works has not written yet."""
    run = RunDirectory.of(config_of())
    with run.acquire(wait=False):
        before = snapshot(run.path)
        for _ in range(3):
            assert launch.run("train", refuse, []) == 2
            assert "another process is working on" in capfd.readouterr().err
            assert snapshot(run.path) == before
            with pytest.raises(UserError, match="another process"):
                run.acquire(wait=False)
    assert (run.path / LOCK_FILE).exists()


def test_a_start_that_fails_alone_leaves_no_directory(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch.run("train", refuse, []) == 2
    assert "but not for long" in capfd.readouterr().err
    assert list(Path("runs").iterdir()) == []


def test_whoever_waited_for_a_directory_that_was_discarded_takes_a_lock_that_holds() -> None:
    run = RunDirectory.of(config_of())
    waiting = FileLock(run.path / LOCK_FILE)
    with run.acquire(wait=False), pytest.raises(Timeout):
        waiting.acquire(timeout=0)
    run.discard_untouched()
    assert not run.path.exists()
    with run.acquire(wait=False), pytest.raises(Timeout):
        waiting.acquire(timeout=0)


def start(purpose: str, wait: bool = True) -> None:
    with RunDirectory.of(config_of()).started(purpose, wait):
        logging.getLogger("retro_lab").info("it works")


def test_a_start_of_the_same_command_is_refused_and_touches_nothing() -> None:
    run = RunDirectory.of(config_of())
    with run.started("memory a", wait=True):
        before = snapshot(run.path)
        for purpose, wait in (("memory a", True), ("memory a", False), ("memory b", False)):
            with pytest.raises(UserError, match="another process is working on"):
                start(purpose, wait)
        assert snapshot(run.path) == before
    assert {path.name for path in run.path.iterdir()} == {LOCK_FILE}


class Said(logging.Handler):
    """Notes messages, and that there was one."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.first = Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.first.set()


@pytest.fixture
def said() -> Iterator[Said]:
    ours, handler = logging.getLogger("retro_lab"), Said()
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    yield handler
    ours.removeHandler(handler)
    ours.setLevel(level)


@pytest.mark.parametrize("holder", ["memory b", None])
def test_a_start_for_another_purpose_waits_and_says_for_what(
    holder: str | None, said: Said
) -> None:
    """Also for work that is no start, such as an evaluation or the training as a baseline."""
    run, waiting = RunDirectory.of(config_of()), Thread(target=start, args=["memory a"])
    with run.acquire(wait=False) if holder is None else run.started(holder, wait=True):
        waiting.start()
        assert said.first.wait(timeout=60)
        assert said.messages == [f"waiting for another process that is working on {run.path}"]
    waiting.join()
    assert said.messages[1:] == ["it works"]


@pytest.mark.parametrize("more", [["memory=suffix"], ["eval=ppl"], ["memory=none", "eval=ppl"]])
def test_points_that_differ_in_what_is_evaluated_differ_in_purpose(more: list[str]) -> None:
    config, other = config_of(), config_of(*more)
    assert RunDirectory.of(config) == RunDirectory.of(other)
    assert purpose(config) == purpose(config_of("verbose=true", "seed=1"))
    assert purpose(config) != purpose(other)


@pytest.mark.slow
def test_of_three_starts_one_trains(tmp_path: Path) -> None:
    command = [sys.executable, str(TRAIN), "debug=fast", "trainer.threads=1", "logger=none"]
    starts = [
        subprocess.Popen(
            command, env=environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = [start.communicate(timeout=500)[1] for start in starts]
    assert sorted(start.returncode for start in starts) == [0, 2, 2], said
    assert sum("another process is working on" in text for text in said) == 2
    for file in (tmp_path / "runs").glob(f"*/{METRICS}"):
        steps = [record["step"] for record in read_metrics(file) if "train/loss" in record]
        assert steps == sorted(set(steps)), "trained twice"

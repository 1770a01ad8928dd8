"""Contract of the loggers: metrics.jsonl is always there and never repeats a step after a resume,
the CSV is the same table, and W&B never asks for a login."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from wandb_files import without_login

from retro_lab.config.schema import (
    CsvConfig,
    LoggerConfig,
    TensorboardConfig,
    WandbConfig,
)
from retro_lab.training.console import ConsoleLogger
from retro_lab.training.loggers import (
    METRICS,
    JsonlLogger,
    build_loggers,
    close_loggers,
    read_metrics,
)
from retro_lab.training.wandb_run import RunIdentity

IDENTITY = RunIdentity("0123abcd" * 8, "run")


@pytest.fixture
def no_login(tmp_path):
    with without_login(tmp_path / "home") as environment:
        yield environment


def build(folder: Path, resume_step: int = 0, **config):
    return build_loggers(LoggerConfig(**config), folder, IDENTITY, resume_step=resume_step)


def steps(folder: Path) -> list[int]:
    return [record["step"] for record in read_metrics(folder / METRICS)]


def test_lines_hold_step_time_and_metrics(tmp_path):
    [logger] = build(tmp_path)
    logger.log_metrics({"train/loss": 2.5, "val/bpb": float("nan")}, step=3)
    [record] = read_metrics(tmp_path / METRICS)
    assert record.pop("time") > 1e9
    assert record == {"step": 3, "train/loss": 2.5, "val/bpb": None}


def test_a_resumed_file_is_cut_at_the_step_and_a_fresh_one_is_empty(tmp_path):
    logger = JsonlLogger(tmp_path / METRICS)
    for step in (5, 10, 10, 15):
        logger.log_metrics({"train/loss": 1.0}, step=step)
    resumed = JsonlLogger(tmp_path / METRICS, resume_step=10)
    assert steps(tmp_path) == [5, 10, 10]
    resumed.log_metrics({"train/loss": 1.0}, step=15)
    assert steps(tmp_path) == [5, 10, 10, 15]
    JsonlLogger(tmp_path / METRICS)
    assert steps(tmp_path) == []


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path):
    JsonlLogger(tmp_path / METRICS).log_metrics({"a": 1.0}, step=1)
    with (tmp_path / METRICS).open("ab") as file:
        file.write(b'{"step":2,"ti')
    JsonlLogger(tmp_path / METRICS, resume_step=2).log_metrics({"a": 2.0}, step=2)
    assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    "bad", [b'{"step":2,"ti', b"", b"\x00\xff", b"[2]", b'{"time":1}', b'{"step":2,"a":"b"}']
)
def test_a_bad_line_in_the_middle_is_skipped_and_named(tmp_path, caplog, bad):
    logger = JsonlLogger(tmp_path / METRICS)
    logger.log_metrics({"a": 1.0}, step=1)
    with (tmp_path / METRICS).open("ab") as file:
        file.write(bad + b"\n")
    logger.log_metrics({"a": 3.0}, step=3)
    assert steps(tmp_path) == [1, 3]
    assert f"{tmp_path / METRICS}, line 2: " in caplog.text
    JsonlLogger(tmp_path / METRICS, resume_step=3).log_metrics({"a": 4.0}, step=4)
    assert steps(tmp_path) == [1, 3, 4]


def test_csv_is_the_same_table(tmp_path):
    loggers = build(tmp_path, csv=CsvConfig(flush_every=100))
    for logger in loggers:
        logger.log_metrics({"train/loss": 2.0}, step=1)
        logger.log_metrics({"val/loss": 3.0}, step=2)
    close_loggers(loggers)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["train/loss"], row["val/loss"]) for row in rows] == [
        ("1", "2.0", ""),
        ("2", "", "3.0"),
    ]


def test_tensorboard_writes_into_the_run_directory(tmp_path):
    pytest.importorskip("tensorboard")
    loggers = build(tmp_path, tensorboard=TensorboardConfig())
    assert isinstance(loggers[1], TensorBoardLogger)
    loggers[1].log_metrics({"train/loss": 2.0}, step=1)
    close_loggers(loggers)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_two_offline_wandb_runs_in_one_process_say_nothing(tmp_path, no_login, capfd):
    for number in ("1", "2"):
        loggers = build(tmp_path / number, wandb=WandbConfig())
        loggers[1].log_metrics({"train/loss": 2.0}, step=1)
        close_loggers(loggers)
        assert list((tmp_path / number / "wandb").glob("offline-run-*-0123abcd"))
    assert capfd.readouterr() == ("", "")


def test_disabled_wandb_leaves_the_other_loggers(tmp_path, no_login):
    no_login.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    assert len(build(tmp_path, wandb=WandbConfig())) == 1
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]


def test_console_shows_lines_without_a_terminal_and_a_bar_on_one(tmp_path, caplog):
    caplog.set_level("INFO", logger="retro_lab.training.console")
    plain = ConsoleLogger(steps=10, start=4)
    plain.open()
    plain.log_metrics({"train/loss": 2.5, "train/tokens_per_second": 1234.0}, step=5)
    plain.log_metrics({"val/bpb": 1.5, "val/loss": 2.0}, step=5)
    plain.log_metrics({"train/loss": 2.0, "train/tokens_per_second": 1000.0}, step=10)
    first, validation, last = [line.partition(": ")[2] for line in caplog.messages[1:]]
    assert first.startswith("step 5 of 10, loss 2.500, 1,234 tokens/s, ")
    assert first.endswith(" left")
    assert validation == "step 5 of 10, val bpb 1.500", "what stands in the line above is left out"
    assert last == "step 10 of 10, loss 2.000, 1,000 tokens/s"

    terminal = Console(force_terminal=True, width=120, record=True)
    bar = ConsoleLogger(steps=10, console=terminal)
    bar.open()
    bar.log_metrics({"train/loss": 2.5}, step=5)
    bar.finalize("success")
    assert "5/10" in terminal.export_text()

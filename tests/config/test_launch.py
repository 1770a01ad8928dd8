"""Contract: a command composes, checks, and hands its task dataclasses; mistakes are one message
and exit code 2, in a single run and in a sweep; nothing is left behind by a run that never began;
composing a configuration never imports torch.
"""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retro_lab.__main__ import COMMANDS
from retro_lab.__main__ import main as dispatch
from retro_lab.commands import launch, validate
from retro_lab.config.compose import compose_root, load_config
from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import run_name
from retro_lab.config.schema import Config, EvaluateConfig
from retro_lab.sweeps.checks import refuse_processes

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, and logging as it was before Hydra set it up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    root, ours = logging.getLogger(), logging.getLogger("retro_lab")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


class Task:
    """Records its configurations, and does on some seeds what a task may do."""

    def __init__(self) -> None:
        self.seen: list = []
        self.argv: list[str] = []

    def __call__(self, config: Config) -> int:
        self.seen.append(config)
        self.argv = sys.argv[:]
        logging.getLogger("retro_lab.task").info("message of %s", config.seed)
        logging.getLogger("some_library").info("chatter")
        if config.seed == 13:
            raise UserError("seed 13 is unlucky", fix="seed=12")
        if config.seed == 14:
            raise KeyboardInterrupt
        if config.seed == 15:
            raise RuntimeError("a bug")
        return 3 if config.seed == 16 else 0


def directories() -> set[str]:
    runs = Path("runs")
    return {path.name for path in runs.iterdir() if path.is_dir()} if runs.exists() else set()


def test_task_gets_dataclasses_and_a_directory_of_its_name() -> None:
    task = Task()
    assert launch.run("train", task, ["model=nano", "seed=2"]) == 0
    (config,) = task.seen
    assert isinstance(config, Config)
    assert config.model.d_model == 64
    assert directories() == {run_name(config)}
    (log,) = Path("runs").glob("*/run.log")
    assert "message of 2" in log.read_text()
    assert "chatter" not in log.read_text()


def test_baselines_reach_the_task_canonical() -> None:
    task = Task()
    assert launch.run("train", task, ["-m", "retriever=none", "cca=paper,all"]) == 0
    assert task.seen[0] == task.seen[1]
    assert directories() == {run_name(task.seen[0])}


def test_the_task_sees_the_process_as_the_user_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning starts further processes by repeating sys.argv."""
    monkeypatch.setattr(sys, "argv", ["prog", "train", "seed=2"])
    task = Task()
    assert launch.run("train", task, ["seed=2"]) == 0
    assert task.argv == ["prog", "train", "seed=2"] == sys.argv
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize(
    "argv",
    [
        ["retreiver=bm25"],
        ["model=tinny"],
        ["neighbours.k=0"],
        ["+model.foo=1"],
        ["corpus=jsonl"],
        ["-m", "retreiver=bm25,random"],
        ["-m", "model.d_modle=3,4"],
        ["-m", "neighbours.k=0"],
        ["-m", "--cfg", "hydra"],
    ],
    ids=" ".join,
)
def test_mistakes_end_with_one_message_and_no_directory(
    argv: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    task = Task()
    assert launch.run("train", task, argv) == 2
    said = capfd.readouterr().err
    assert said.count("error: ") == 1
    assert "fix: " in said
    assert "Traceback" not in said
    assert (task.seen, directories()) == ([], set())


def test_a_mistake_leaves_the_working_directory_alone() -> None:
    """The output directory of `evaluate`; even if it is empty, somebody stands in it."""

    def task(command: EvaluateConfig) -> int:
        raise UserError(f"{command.run} is no run")

    here = Path.cwd()
    assert launch.run("evaluate", task, ["run=nowhere"]) == 2
    assert here.is_dir()


@pytest.mark.parametrize("argv", [[], ["-m", "seed=1,2"]], ids=["a run", "a sweep"])
def test_a_place_that_cannot_be_written_is_named(
    argv: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("a file")
    task = Task()
    assert launch.run("train", task, [*argv, "runs_dir=taken/runs"]) == 2
    said = capfd.readouterr().err
    assert "error: taken/runs" in said
    assert ": Not a directory\n  fix: " in said
    assert "Traceback" not in said
    assert task.seen == []


def test_what_the_machine_refuses_a_command_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(argv: list[str]) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/report.csv")

    monkeypatch.setattr(validate, "main", full)
    assert dispatch(["validate"]) == 2
    assert "error: runs/report.csv: No space left on device\n" in capfd.readouterr().err

    def missing(argv: list[str]) -> int:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a bug")

    monkeypatch.setattr(validate, "main", missing)
    with pytest.raises(FileNotFoundError):
        dispatch(["validate"])


def test_one_bad_point_does_not_stop_a_sweep(capfd: pytest.CaptureFixture[str]) -> None:
    task = Task()
    assert launch.run("train", task, ["-m", "seed=13,2", "cca=paper,mid"]) == 2
    assert [config.seed for config in task.seen] == [13, 2]
    said = capfd.readouterr().err
    assert said.count("error: ") == 3
    assert "seed=13 cca=mid" in said
    assert "seed 13 is unlucky" in said


def test_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch.run("train", Task(), ["seed=13"]) == 2
    assert launch.run("train", Task(), ["seed=14"]) == 130
    assert launch.run("train", Task(), ["-m", "seed=14,1"]) == 130
    assert launch.run("train", Task(), ["seed=16"]) == 3
    assert "error: seed 13 is unlucky\n  fix: seed=12\n" in capfd.readouterr().err
    with pytest.raises(RuntimeError, match="a bug"):
        launch.run("train", Task(), ["seed=15"])


def test_a_user_may_ask_for_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="d_modle"):
        launch.run("train", Task(), ["model.d_modle=3"])


def test_presets_sweep_without_a_flag() -> None:
    task = Task()
    argv = ["sweep=neighbours", "hydra.sweeper.params.neighbours='k1,k4'", "debug=fast"]
    assert launch.run("train", task, argv) == 0
    assert [config.neighbours.k for config in task.seen] == [1, 4]


def test_processes_are_refused_in_a_sweep_only(capfd: pytest.CaptureFixture[str]) -> None:
    task = Task()
    assert launch.run("train", task, ["-m", "trainer=ddp", "seed=7"]) == 2
    said = capfd.readouterr().err
    assert "python train.py trainer=ddp seed=7" in said
    assert "hydra/launcher=slurm" in said
    assert launch.run("train", task, ["-m", "trainer.num_nodes=2"]) == 2
    assert (task.seen, directories()) == ([], set())
    assert launch.run("train", task, ["trainer=ddp", "seed=7"]) == 0


@pytest.mark.parametrize(
    ("preset", "plugin"),
    [("slurm", "submitit"), ("cores", "joblib"), ("ray_cluster", "ray")],
)
def test_a_launcher_preset_is_a_plugin_with_settings(preset: str, plugin: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher")
    hydra = compose_root("train", [f"hydra/launcher={preset}", "trainer=ddp"]).hydra
    assert hydra.launcher._target_.startswith(f"hydra_plugins.hydra_{plugin}_launcher")
    config = load_config(["trainer=ddp"])
    if preset == "slurm":
        assert (hydra.launcher.nodes, hydra.launcher.tasks_per_node) == (1, 2)
        refuse_processes(config, hydra)
    else:
        with pytest.raises(UserError, match=f"under hydra/launcher={preset}"):
            refuse_processes(config, hydra)


def test_evaluate_makes_no_directory() -> None:
    seen = []
    assert launch.run("evaluate", seen.append, ["run=runs/x", "eval=ppl"]) == 0
    (config,) = seen
    assert isinstance(config, EvaluateConfig)
    assert list(Path.cwd().iterdir()) == []
    assert launch.run("evaluate", seen.append, []) == 2


def test_help_and_config_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch.run("train", Task(), ["--help"]) == 0
    assert "faiss_hnsw" in capfd.readouterr().out
    assert launch.run("train", Task(), ["--cfg", "job", "model=nano"]) == 0
    assert "d_model: 64" in capfd.readouterr().out
    assert directories() == set()


def test_validate_lists_every_misspelling(capfd: pytest.CaptureFixture[str]) -> None:
    typos = ["model.d_modle=3", "retriever.nprobe=4", "retriever=faiss_flat", "optim.lr=x", "sed=1"]
    assert validate.main(typos) == 2
    said = capfd.readouterr().err
    assert "3 problems" in said
    for part in ("model.d_model?", "optim.lr=x", "did you mean seed?"):
        assert part in said
    assert "nprobe" not in said


def test_validate_lists_every_broken_rule(capfd: pytest.CaptureFixture[str]) -> None:
    assert validate.main(["neighbours.k=0", "cca=paper"]) == 2
    assert "2 problems" in capfd.readouterr().err
    assert validate.main(["corpus=jsonl"]) == 2
    assert "corpus.path has no value" in capfd.readouterr().err


def test_validate_describes_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert validate.main(["model=nano", "chunking=m32"]) == 0
    said = capfd.readouterr().out
    assert "runs/nano-bm25-k2-s1-" in said
    assert "512 tokens = 16 chunks of 32" in said
    assert directories() == set()


def test_dispatcher(capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["--help"]) == 0
    said = capfd.readouterr().out
    assert all(f"  {command} " in said for command in COMMANDS)
    assert dispatch(["trian"]) == 2
    assert "did you mean train?" in capfd.readouterr().err
    assert dispatch(["validate", "model=tinny"]) == 2


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]], ids=" ".join)
def test_scripts_answer_without_torch(script: str, flags: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", str(REPO / script), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "retro_lab.config.schema" in imported  # else the next line proves nothing
    assert not imported & {"torch", "pytorch_lightning", "faiss", "sentence_transformers"}


def test_script_ends_a_typo_with_exit_code_2() -> None:
    command = [sys.executable, str(REPO / "train.py"), "-m", "model.d_modle=3,4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "did you mean model.d_model?" in done.stderr
    assert "Traceback" not in done.stderr
    assert "\033" not in done.stderr  # no colours into a pipe

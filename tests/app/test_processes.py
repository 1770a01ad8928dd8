"""Contract: the command line trains with several processes, of which one writes and reports; and
under a launcher every point of a sweep has the directory that it has alone, and is run once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import orjson
import pytest
from composed import config_of

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of
from retro_lab.config.schema import Config, TrainerConfig
from retro_lab.run.directory import RunDirectory
from retro_lab.run.timing import Stopwatch

TRAIN = Path(__file__).parents[2] / "train.py"
SMALL = [
    "debug=fast", "corpus.max_bytes=120_000", "tokenizer=byte", "logger=none",
    "trainer.threads=1", "eval=ppl",
]  # fmt: skip


# What a cluster's sbatch and srun come to on one machine: every task with its numbers.
SBATCH = """#!/bin/bash
script="${@: -1}"
cp "$script" submitted.sh
points=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
export SLURM_NTASKS=$(sed -n 's/^#SBATCH --ntasks-per-node=//p' "$script")
export SLURM_NTASKS_PER_NODE=$SLURM_NTASKS SLURM_ARRAY_JOB_ID=4200
export SLURM_JOB_NODELIST=localhost SLURM_NODELIST=localhost
for point in $(seq 0 "${points:-0}"); do
    export SLURM_ARRAY_TASK_ID=$point SLURM_JOB_ID=$((4201 + point)) SLURM_JOB_NAME=train
    bash "$script" > "point$point.log" 2>&1 &
done
echo "Submitted batch job $SLURM_ARRAY_JOB_ID"
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do
    case $1 in --output | --error) shift 2 ;; *) shift ;; esac
done
for task in $(seq 0 $((SLURM_NTASKS - 1))); do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" &
done
wait
"""


def train(folder: Path, *overrides: str) -> str:
    """What the command says; it runs in `folder`, whose own programs come first."""
    environment = {
        **os.environ, "PYTHONPATH": str(TRAIN.parent), "MASTER_ADDR": "127.0.0.1",
        "PATH": f"{folder}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(TRAIN), *overrides, *SMALL],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def runs(folder: Path) -> dict[str, str]:
    """State of each run by name."""
    found = (folder / "runs").glob("*/status.json")
    return {path.parent.name: orjson.loads(path.read_bytes())["state"] for path in found}


def times(folder: Path) -> dict[Path, int]:
    """When each run's results were written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/results.json")}


@pytest.mark.slow
def test_two_processes_finish_a_run_like_one(tmp_path: Path) -> None:
    scores = {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        trainer = ["trainer=ddp", "trainer.accelerator=cpu"] if devices > 1 else []
        said = train(folder, *trainer)
        assert set(runs(folder).values()) == {"finished"}
        assert said.count("building chunks") == said.count("retrofit: from step 0") == 1
        (results,) = (folder / "runs").glob("nano-bm25-*/results.json")
        scores[devices] = orjson.loads(results.read_bytes())["metrics"]["test"]["on"]["bpb"]
    assert scores[2] == pytest.approx(scores[1], rel=1e-4)
    assert "is finished already" in train(tmp_path / "2", "trainer=ddp", "trainer.accelerator=cpu")


@pytest.mark.parametrize("number", ["RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"])
def test_one_process_of_several_leads(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_rank_zero(*overrides: str) -> bool:
        config: Config = config_of(*SMALL, *overrides)
        return RunDirectory.of(config).is_rank_zero

    assert is_rank_zero("trainer=ddp")
    monkeypatch.setenv(number, "1")
    assert not is_rank_zero("trainer=ddp")
    assert not is_rank_zero("trainer.num_nodes=2")
    assert is_rank_zero()  # a process by itself, whatever its cluster has numbered


def test_the_others_neither_lock_nor_write(tmp_path: Path) -> None:
    leader, follower = RunDirectory(tmp_path), RunDirectory(tmp_path, is_rank_zero=False)
    lock = leader.acquire(wait=False)
    follower.acquire(wait=False).release()
    assert lock.is_locked
    follower.begin(config_of(*SMALL), anew=True)
    follower.enter("finished")
    follower.record_lineage({"chunks": "x"})
    assert leader.state == "new"
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


@pytest.mark.parametrize("due", [True, False])
def test_the_first_process_decides_on_the_baseline(tmp_path: Path, due: bool) -> None:
    """It does so where no other job can change it; the others do as it says, not as they see."""
    from retro_lab.run.experiment import ensure_trained

    config: Config = config_of(*SMALL, "trainer=ddp", f"runs_dir={tmp_path}")
    held, trained = [], []

    def says(trainer: TrainerConfig, found: bool) -> bool:
        assert found  # there is none yet
        path = RunDirectory.of(baseline_of(config)).path
        with pytest.raises(UserError, match="another process"):
            RunDirectory(path).acquire(wait=False)
        held.append(path)
        return due

    def finish(config: Config, run: RunDirectory, *_: object) -> None:
        trained.append(run.path)

    ensure_trained(
        "baseline", baseline_of(config), Mock(lineage={}), Stopwatch(), agree=says, finish=finish
    )
    assert trained == (held if due else [])
    RunDirectory(held[0]).acquire(wait=False).release()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "module", "more"),
    [
        ("cores", "hydra_plugins.hydra_joblib_launcher", ["hydra.launcher.n_jobs=2"]),
        ("submitit_local", "hydra_plugins.hydra_submitit_launcher", []),
        ("ray_cluster", "hydra_plugins.hydra_ray_launcher", []),
    ],
)
def test_a_sweep_under_a_launcher(
    tmp_path: Path, launcher: str, module: str, more: list[str]
) -> None:
    pytest.importorskip(module)
    sweep = ["-m", f"hydra/launcher={launcher}", "neighbours=k1,k2", "retriever=random", *more]
    train(tmp_path, *sweep)
    expected = [
        RunDirectory.of(config_of(*SMALL, "retriever=random", f"neighbours={k}")).path.name
        for k in ("k1", "k2")
    ]
    found = runs(tmp_path)
    assert set(expected) < set(found)
    assert len(found) == 3  # and the baseline that they share
    assert set(found.values()) == {"finished"}
    written = times(tmp_path)
    train(tmp_path, *sweep)
    assert times(tmp_path) == written


@pytest.mark.slow
def test_slurm_starts_two_processes_a_point_that_share_a_baseline(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    for name, program in (("sbatch", SBATCH), ("srun", SRUN)):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    several = ["trainer=ddp", "trainer.accelerator=cpu"]
    sweep = ["-m", "hydra/launcher=slurm", "neighbours=k1,k2", "retriever=random", *several]
    train(tmp_path, *sweep)
    submitted = (tmp_path / "submitted.sh").read_text()
    assert "#SBATCH --ntasks-per-node=2\n" in submitted
    assert "#SBATCH --array=0-1%" in submitted
    assert len(runs(tmp_path)) == 3  # and the baseline
    assert set(runs(tmp_path).values()) == {"finished"}
    logs = [log.read_text() for log in tmp_path.glob("runs/*/run.log")]
    assert sum(log.count("baseline: from step 0") for log in logs) == 1  # by one of the two jobs

"""Contract of sweeps: an optimiser chooses on validation or not at all, its study goes on where it
was stopped, points that fail say why and how to try again, and mistakes are one message."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from filelock import FileLock

from retro_lab.commands import launch
from retro_lab.config.console import EXIT_INTERRUPTED
from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config
from retro_lab.run.locked_folder import LOCK_FILE
from retro_lab.sweeps.failure import FAILURE_FILE, failure_recorded, read_failure
from retro_lab.sweeps.points import command
from retro_lab.sweeps.unfinished import unfinished

SEARCH = ["sweep=optuna", "recipe.lr=interval(0.001,0.009)"]


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, and logging as it was before Hydra set it up."""
    monkeypatch.chdir(tmp_path)
    root, ours = logging.getLogger(), logging.getLogger("retro_lab")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


class Task:
    """Scores a run by its learning rate; raises at the calls it is told to."""

    def __init__(self, raises: dict[int, BaseException] | None = None) -> None:
        self.seen: list[float] = []
        self.raises = raises or {}

    def __call__(self, config: Config) -> float:
        lr = config.recipe.lr
        assert lr is not None
        self.seen.append(lr)
        if error := self.raises.get(len(self.seen)):
            raise error
        return abs(lr - 0.004)


def search(task: Task, trials: int, *more: str) -> int:
    return launch.run("train", task, [*SEARCH, f"hydra.sweeper.trials={trials}", *more])


def test_a_study_ends_when_enough_trials_are_complete_and_goes_on_for_more(
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("optuna")
    first, again, more, whole = Task(), Task(), Task(), Task()
    assert search(first, 2) == 0
    assert search(again, 2) == 0
    assert search(more, 3) == 0
    assert (len(first.seen), len(again.seen), len(more.seen)) == (2, 0, 1)
    best = min([*first.seen, *more.seen], key=lambda lr: abs(lr - 0.004))
    said = capfd.readouterr().out
    assert "3 of 3 trials are complete" in said
    assert f"recipe.lr={best:.4g}" in said.rpartition("best")[2]
    assert "eval.split=test" in said, "the one command that scores the chosen run"
    assert search(whole, 3, "hydra.sweeper.study=whole") == 0
    assert whole.seen == [*first.seen, *more.seen], "as if it had never been stopped"
    assert len(set(whole.seen)) == 3, "each proposal is another"


def test_an_interrupted_trial_is_run_again_first() -> None:
    pytest.importorskip("optuna")
    stopped, after = Task({2: KeyboardInterrupt()}), Task()
    assert search(stopped, 3) == EXIT_INTERRUPTED
    assert search(after, 3) == 0
    whole = Task()
    assert search(whole, 3, "hydra.sweeper.study=whole") == 0
    assert after.seen == whole.seen[1:], "resumed, and then as if it had never been stopped"


def test_a_failed_trial_does_not_end_the_study_and_is_tried_once_a_command(
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("optuna")
    failing, after = Task({2: UserError("no room", fix="make some")}), Task()
    assert search(failing, 3) == 2
    assert len(failing.seen) == 3
    said = capfd.readouterr()
    assert "2 of 3 trials are complete" in said.out
    assert ": no room\n" in said.out
    assert search(after, 3) == 0
    assert after.seen == [failing.seen[1]]
    first = Task({1: UserError("no corpus")})
    assert search(first, 3, "hydra.sweeper.study=other") == 2
    assert len(first.seen) == 1, "what fails at once would fail every time"


@pytest.mark.parametrize(
    ("argv", "message", "fix"),
    [
        (["eval.split=test"], "chooses on the validation split", "eval.split=validation"),
        (["eval.split=train"], "chooses on the validation split", "eval.split=validation"),
        (["eval.split=validation,test"], "chooses no eval.split", "search settings"),
        (["seed=1,2"], "chooses no seed", "search settings"),
        (
            ["objective=gain", "retriever=none", "memory=none"],
            "a gain is over a plain model, and this run has none",
            "objective=bpb",
        ),
        (["recipe.lr=interval(2,1)"], "is no search space", "interval(0,1)"),
        (["recipe.lr=1e-3", "neighbours=k2"], "nothing to search", "give one several"),
        (["hydra.sweeper.trials=0"], "hydra.sweeper.trials=0", "hydra.sweeper.trials=20"),
        (["hydra.sweeper.storage=sqlite:///no/where.db"], "cannot be used", "another database"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_search_that_cannot_be_is_one_message(
    argv: list[str], message: str, fix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    task = Task()
    assert launch.run("train", task, [*SEARCH, *argv]) == 2
    said = capfd.readouterr().err
    assert said.count("error: ") == 1
    assert message in said
    assert fix in said.partition("fix: ")[2]
    assert task.seen == []


def test_a_chosen_memory_is_in_the_command_that_scores_the_chosen_run(
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("optuna")
    more = ["memory.max_run=choice(8,16)", "memory.gate_tokens=2000", "recipe.lr=0.003"]
    argv = ["sweep=optuna", "hydra.sweeper.trials=1", "neighbours=k2", *more]
    assert launch.run("train", Task(), argv) == 0
    said = capfd.readouterr().out.rpartition("python evaluate.py")[2]
    assert "eval.split=test memory=suffix_topic memory.gate_tokens=2000 memory.max_run=" in said


def test_a_study_is_of_one_question(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    assert search(Task(), 1) == 0
    assert search(Task(), 2, "model=nano") == 2
    said = capfd.readouterr().err
    assert "model.name was tiny, is nano" in said
    assert search(Task(), 2, "recipe.lr=interval(0.001,0.5)") == 2
    assert "hydra.sweeper.params was" in capfd.readouterr().err
    assert search(Task(), 2, "memory=none") == 2
    assert "objective was bpb with memory, is bpb" in capfd.readouterr().err
    held = FileLock("runs/.study-settings.lock")
    with held:
        assert search(Task(), 2) == 2
    assert "another process is working on the study settings" in capfd.readouterr().err
    assert search(Task(), 2, "trainer.threads=1", "logger=none") == 0, "the same runs elsewhere"


def test_hydras_grammar_is_the_search_space() -> None:
    optuna = pytest.importorskip("optuna")
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from retro_lab.sweeps.search_space import as_overrides, search_space

    given = [
        "a=interval(0,1)", "b=tag(log,interval(0.001,1))", "c=int(interval(1,8))",
        "d=range(2,9,2)", "e=choice(k1,k2)", "f=x,null", "g=range(0,0.3,0.1)", "h=7",
    ]  # fmt: skip
    parser = OverridesParser.create()
    space = search_space(parser.parse_overrides(given))
    d = optuna.distributions
    assert space == {
        "a": d.FloatDistribution(0, 1),
        "b": d.FloatDistribution(0.001, 1, log=True),
        "c": d.IntDistribution(1, 8),
        "d": d.IntDistribution(2, 8, step=2),
        "e": d.CategoricalDistribution(["k1", "k2"]),
        "f": d.CategoricalDistribution(["x", "null"]),
        "g": d.FloatDistribution(0, 0.2, step=0.1),
    }
    trial = optuna.create_study().ask(space)
    again = parser.parse_overrides(as_overrides(trial.params))
    assert [override.key_or_group for override in again] == list(space)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("hydra.sweeper.params=3", "is no mapping"),
        ("+hydra.sweeper.params.seed='[1,'", "hydra.sweeper.params.seed=[1, cannot be read"),
        ("+hydra.sweeper.params.sed='1,2'", "did you mean seed?"),
        ("+hydra.sweeper.params.optim.lr='a,b'", "optim.lr=a: expected a number"),
        ("+hydra.sweeper.params.optim='a,b'", "options of optim"),
        ("hydra.sweeper.max_batch_size=0", "at least 1"),
        ("hydra.sweep.dir=elsewhere", "fix: runs_dir=elsewhere"),
    ],
)
def test_a_wrong_sweep_is_one_message(
    argv: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    task = Task()
    assert launch.run("train", task, ["-m", "recipe.lr=1e-3", argv]) == 2
    said = capfd.readouterr().err
    assert said.count("error: ") == 1
    assert message in said
    assert "Traceback" not in said
    assert (task.seen, list(Path().glob("*/*/"))) == ([], [])


def test_parameters_of_a_sweep_may_be_nested() -> None:
    task = Task()
    assert launch.run("train", task, ["-m", "+hydra.sweeper.params.recipe.lr='1e-3,2e-3'"]) == 0
    assert task.seen == [0.001, 0.002]


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.subdir"])
def test_a_run_cannot_be_moved_by_hydra(key: str, capfd: pytest.CaptureFixture[str]) -> None:
    task = Task()
    argv = ["-m"] if "sweep" in key else []
    assert launch.run("train", task, [*argv, f"{key}=elsewhere", "recipe.lr=1e-3"]) == 2
    assert "runs_dir=<folder>" in capfd.readouterr().err
    assert task.seen == []
    assert not list(Path().glob("**/elsewhere"))


def test_a_sweep_ends_with_what_failed_and_how_to_try_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    failing = Task({1: UserError("no room\nat all", fix="make some")})
    sweep = ["-m", "recipe.lr=1e-3,2e-3", "seed=3"]
    assert launch.run("train", failing, sweep) == 2
    said = capfd.readouterr().out
    assert "0 finished, 1 failed, 1 pending" in said
    assert ": no room\n        python train.py recipe.lr=0.001 seed=3\n" in said
    assert launch.run("train", Task(), ["recipe.lr=1e-3", "seed=3"]) == 0
    assert not list(Path("runs").glob(f"*/{FAILURE_FILE}")), "a run that succeeds has not failed"


def test_points_that_have_not_begun_are_pending(capfd: pytest.CaptureFixture[str]) -> None:
    stopped = Task({1: KeyboardInterrupt()})
    sweep = ["-m", "recipe.lr=1e-3,2e-3"]
    assert launch.run("train", stopped, sweep) == EXIT_INTERRUPTED
    left = {run.reason: run for run in unfinished(Path("runs"))}
    assert {run.state for run in left.values()} == {"pending"}
    assert left["interrupted"].retry == "python train.py recipe.lr=0.001"
    assert left["not begun"].retry == "python train.py recipe.lr=0.002"


def test_a_retried_point_of_a_preset_does_not_start_the_sweep() -> None:
    line = command(["neighbours=k1", "sweep=neighbours", "optim.lr=1"])
    assert line == "python train.py neighbours=k1 sweep=neighbours optim.lr=1 hydra.mode=RUN"
    task = Task()
    assert launch.run("train", task, [*line.split()[2:], "recipe.lr=1e-3"]) == 0
    assert len(task.seen) == 1


def test_a_run_that_another_process_trains_has_not_failed(tmp_path: Path) -> None:
    lock, refused = FileLock(tmp_path / LOCK_FILE), UserError("another process is working on it")
    with lock, pytest.raises(UserError), failure_recorded(tmp_path, ["seed=1"]):
        raise refused
    assert read_failure(tmp_path) is None
    with pytest.raises(ValueError), failure_recorded(tmp_path, ["seed=1"]):
        raise ValueError("a bug\nwith lines")
    failure = read_failure(tmp_path)
    assert failure is not None
    assert (failure.reason, failure.overrides) == ("ValueError: a bug", ["seed=1"])


def test_damaged_notes_are_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / FAILURE_FILE).write_bytes(orjson.dumps({"reasons": 1}))
    [left] = unfinished(tmp_path)
    assert FAILURE_FILE in left.reason
    (tmp_path / "sweep.json").write_text("[1")
    with pytest.raises(UserError, match=r"sweep\.json is damaged"):
        unfinished(tmp_path)

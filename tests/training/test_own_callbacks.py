"""Contract: callbacks of Lightning and of the user's own see every training; one that ends it early
leaves a validated last checkpoint at that step; and each argument of Lightning's Trainer is either
passed on or set by this project, which names the key to use.
"""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import pytest
import torch
from composed import config_of
from pytorch_lightning import Trainer
from small_run import small_config, small_fit
from test_module import by_step

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of, run_key
from retro_lab.config.parts import with_own_parts
from retro_lab.config.rules import check
from retro_lab.config.schema import CallbacksConfig, EarlyStoppingConfig
from retro_lab.config.schema.setting import own_problems
from retro_lab.config.schema.trainer import TrainerConfig
from retro_lab.training.own_callbacks import build_callbacks

STOP = CallbacksConfig(cls=["stopping:StopAt"], settings={"StopAt": {"step": 6}})


def test_a_callback_that_stops_leaves_a_validated_last_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_config(callbacks=with_own_parts(STOP, "callbacks."))
    with caplog.at_level(logging.WARNING, "retro_lab"):
        _, result = small_fit(tmp_path, config)
    assert result.steps == 6
    assert torch.load(result.last, weights_only=True)["global_step"] == 6
    assert max(by_step(tmp_path, "val")) == 6
    assert "training stopped at step 6 of 14" in caplog.text


def test_early_stopping_ends_a_training_that_no_longer_improves(tmp_path: Path) -> None:
    stopping = EarlyStoppingConfig(patience=1, min_delta=100)
    _, result = small_fit(
        tmp_path, small_config(callbacks=CallbacksConfig(early_stopping=stopping))
    )
    assert result.steps == 8  # the second validation
    assert torch.load(result.last, weights_only=True)["global_step"] == 8


def test_a_profiler_reports_into_the_runs_directory(tmp_path: Path) -> None:
    small_fit(tmp_path, small_config(extra={"profiler": "simple"}), steps=2)
    [report] = tmp_path.glob("*profile*")
    assert "optimizer_step" in report.read_text()


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        (CallbacksConfig(["stopping:Imitation"]), "is no Callback of pytorch_lightning"),
        (
            CallbacksConfig(["stopping:StopAt"], {"StopAt": {"step": 0}}),
            r"refuses its settings: no step 0",
        ),
        (CallbacksConfig(["stopping:StopAt"], {"StopAt": {"stp": 1}}), r"StopAt\.step\?"),
        (CallbacksConfig(["stopping:StopAt"], {"Stop": {}}), r"is of no part in callbacks\.class"),
        (CallbacksConfig(["stopping:StopAt", "a:StopAt"]), "names two parts alike"),
    ],
)
def test_a_wrong_callback_is_named(callbacks: CallbacksConfig, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build_callbacks(with_own_parts(callbacks, "callbacks."))


def test_every_argument_of_the_trainer_is_passed_on_or_has_its_key() -> None:
    told = {}
    for name in inspect.signature(Trainer).parameters:
        [broken] = own_problems(TrainerConfig(extra={name: "x"}), "trainer.")
        told[name] = str(broken)
    assert not [name for name, said in told.items() if "is no argument" in said]
    assert "schedule.steps" in told["max_steps"]
    assert "must be days:hours" in told["max_time"]
    [unknown] = own_problems(TrainerConfig(extra={"max_tim": "x"}))
    assert "did you mean max_time" in str(unknown)


def test_what_may_change_the_weights_is_in_the_key_of_run_and_baseline() -> None:
    plain = config_of()
    for override in ("trainer.extra.max_time=00:00:10:00", "callbacks.early_stopping.patience=2"):
        group = ["callbacks=early_stopping"] if override.startswith("callbacks") else []
        other = config_of(*group, override)
        check(other)
        assert run_key(other) != run_key(plain)
        assert run_key(baseline_of(other)) != run_key(baseline_of(plain))
        assert other.wanted_plain is None  # of unknown length, so no plain model matches it
    profiled = config_of("trainer.extra.profiler=simple")
    check(profiled)
    assert run_key(profiled) == run_key(plain)

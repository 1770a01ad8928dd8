"""Contract of resuming: a run that is interrupted or crashes and then goes on has the weights,
the metrics and the best checkpoint of one that was never stopped, to the bit."""

from __future__ import annotations

import signal

import pytest
import torch
from small_run import optimiser_config, small_config, small_datamodule, small_fit, small_model
from trouble import Trouble

from retro_lab.config.errors import UserError
from retro_lab.config.schema import ScheduleConfig
from retro_lab.training.callbacks import BEST, LAST, STOP_SIGNALS
from retro_lab.training.checkpoint import (
    checkpoint_folder,
    drop_checkpoints,
    model_weights,
    resumable_step,
)
from retro_lab.training.loggers import METRICS, read_metrics

TIMES = {"time", "train/tokens_per_second"}
STEPS = 14  # of small_config; a validation follows steps 4, 8, 12 and 14


class Impatience(Trouble):
    def trouble(self):
        super().trouble()
        super().trouble()


class Termination(Trouble):
    number = signal.SIGTERM


class Crash(Trouble):
    def trouble(self):
        raise RuntimeError("crash")


def troubled(kind: type[Trouble], after: int) -> Trouble:
    model = small_model()
    model.__class__ = kind
    model.after = after
    return model


def metrics(folder) -> list[dict]:
    records = read_metrics(folder / METRICS)
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model, _ = small_fit(folder, small_config())
    return folder, model.state_dict()


def assert_like_whole(folder, model, whole) -> None:
    reference, weights = whole
    assert_same(model.state_dict(), weights)
    assert metrics(folder) == metrics(reference)
    best = [model_weights(checkpoint_folder(run) / BEST) for run in (folder, reference)]
    assert_same(*best)


@pytest.mark.parametrize("after", range(1, STEPS))
def test_interrupted_at_any_step(tmp_path, whole, after):
    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(KeyboardInterrupt):
        small_fit(tmp_path, small_config(), model=troubled(Trouble, after))
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == handlers
    assert resumable_step(tmp_path) == after
    model, result = small_fit(tmp_path, small_config())
    assert result.steps == STEPS
    assert_like_whole(tmp_path, model, whole)


@pytest.mark.parametrize("after", [4, 9, 13])
def test_crash_goes_back_to_the_last_checkpoint(tmp_path, whole, after):
    with pytest.raises(RuntimeError, match="crash"):
        small_fit(tmp_path, small_config(), model=troubled(Crash, after))
    assert resumable_step(tmp_path) == (after - 1) // 5 * 5
    model, _ = small_fit(tmp_path, small_config())
    assert_like_whole(tmp_path, model, whole)


def test_a_second_interrupt_stops_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        small_fit(tmp_path, small_config(), model=troubled(Impatience, 3))
    assert resumable_step(tmp_path) == 0


@pytest.mark.parametrize("after", [8, 10])
def test_a_clusters_notice_leaves_a_checkpoint(tmp_path, whole, after):
    with pytest.raises(SystemExit) as stop:
        small_fit(tmp_path, small_config(), model=troubled(Termination, after))
    assert stop.value.code == 128 + signal.SIGTERM
    assert resumable_step(tmp_path) == after
    model, _ = small_fit(tmp_path, small_config())
    assert_like_whole(tmp_path, model, whole)


def test_loading_processes_and_repeated_interruption(tmp_path, whole):
    config = small_config(num_workers=2)
    for after in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            small_fit(tmp_path, config, model=troubled(Trouble, after))
    model, _ = small_fit(tmp_path, config)
    assert_like_whole(tmp_path, model, whole)


@pytest.mark.parametrize("kind", [Trouble, Termination])
def test_loading_processes_outlive_signals_until_the_step_is_done(tmp_path, capfd, kind):
    # Step 2 still needs seven batches, more than are loaded ahead.
    schedule = ScheduleConfig(steps=4, batch_size=8, warmup_steps=0)
    config = small_config(num_workers=2, accumulate=8, schedule=schedule)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        small_fit(tmp_path, config, model=troubled(kind, 9))
    assert resumable_step(tmp_path) == 2
    assert capfd.readouterr().out.count("stopping after this step") == 1  # from the parent alone


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        small_fit(
            tmp_path, small_config(), model=troubled(Trouble, 3), trained_as={"model.d_ff": 32}
        )
    with pytest.raises(UserError, match=r"another configuration: model\.d_ff was 32, is 64"):
        small_fit(tmp_path, small_config(), trained_as={"model.d_ff": 64, "model.d_model": 16})


def test_accumulation_is_interrupted_between_steps_only(tmp_path):
    config = small_config(accumulate=2)
    model, _ = small_fit(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):  # in the first half of step 4
        small_fit(tmp_path / "run", config, model=troubled(Trouble, 7))
    assert resumable_step(tmp_path / "run") == 4
    resumed, _ = small_fit(tmp_path / "run", config)
    assert_same(resumed.state_dict(), model.state_dict())
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_muon_resumes_exactly(tmp_path):
    config = small_config(optim=optimiser_config("muon"))
    model, _ = small_fit(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        small_fit(tmp_path / "run", config, model=troubled(Trouble, 6))
    resumed, _ = small_fit(tmp_path / "run", config)
    assert_same(resumed.state_dict(), model.state_dict())


def test_a_finished_run_is_not_trained_again(tmp_path, whole):
    small_fit(tmp_path, small_config())
    model, result = small_fit(tmp_path, small_config())
    assert result.steps == STEPS
    assert_like_whole(tmp_path, model, whole)


def test_resume_false_starts_again(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        small_fit(tmp_path, small_config(), model=troubled(Trouble, 6))
    drop_checkpoints(tmp_path)
    model, _ = small_fit(tmp_path, small_config())
    assert_same(model.state_dict(), whole[1])


def test_other_data_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        small_fit(tmp_path, small_config(), model=troubled(Trouble, 6))
    with pytest.raises(UserError, match="seed: 5 there, 6 here"):
        small_fit(tmp_path, small_config(seed=6))
    state = small_datamodule(small_config()).state_dict()
    assert state["samples_consumed"] == 0


def test_weights_of_an_earlier_training_do_not_outlive_a_new_start(tmp_path):
    folder = checkpoint_folder(tmp_path)
    small_fit(tmp_path, small_config())
    assert (folder / BEST).exists()
    (folder / LAST).unlink()  # as a death in the middle of `resume=False` leaves it
    config = small_config(val_every=10_000, schedule=ScheduleConfig(steps=20, batch_size=4))
    with pytest.raises(KeyboardInterrupt):
        small_fit(tmp_path, config, model=troubled(Trouble, 6))
    assert resumable_step(tmp_path) == 6
    assert not (folder / BEST).exists()

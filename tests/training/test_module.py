"""Contract of training: figures come from sums, dropout from seed and step, validation reports
RETRO on and off, and checkpoints hold plain values only."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small_run import small_config, small_datamodule, small_fit, small_model
from small_store import PAD, SmallStore

from retro_lab.config.errors import UserError
from retro_lab.config.schema import AdamWConfig
from retro_lab.training.callbacks import LAST
from retro_lab.training.checkpoint import checkpoint_folder, model_weights
from retro_lab.training.fit import fit
from retro_lab.training.loggers import METRICS, read_metrics
from retro_lab.training.phase import Phase


def by_step(folder, prefix: str) -> dict[int, dict[str, float]]:
    return {r["step"]: r for r in read_metrics(folder / METRICS) if f"{prefix}/loss" in r}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model, result = small_fit(folder, small_config())
    return folder, model, result


def test_training_figures_derive_from_the_sums_of_their_interval(tmp_path):
    config = small_config(optim=AdamWConfig(lr=1e-9))  # the model stays as it is
    model, _ = small_fit(tmp_path, config, model=small_model(dropout=0.0), steps=3)
    model.eval()
    nats = tokens = num_bytes = filled = slots = 0.0
    loader = iter(small_datamodule(config).train_dataloader())
    for _ in range(3):
        batch = next(loader)
        with torch.no_grad():
            nats += model.token_nats(
                batch["input_ids"], batch["targets"], batch["neighbour_ids"], batch["document_ids"]
            ).sum()
        tokens += (batch["targets"] != -100).sum()
        num_bytes += batch["target_bytes"].sum()
        filled += (batch["neighbour_chunks"] >= 0).sum()
        slots += (batch["chunk_ids"] >= 0).sum() * 2
    record = by_step(tmp_path, "train")[3]
    assert record["train/loss"] == pytest.approx((nats / tokens).item(), rel=1e-5)
    assert record["train/ppl"] == pytest.approx(math.exp(record["train/loss"]))
    bits = (nats / math.log(2) / num_bytes).item()
    assert record["train/bpb"] == pytest.approx(bits, rel=1e-5)
    assert record["train/coverage"] == pytest.approx((filled / slots).item())
    assert record["train/tokens_per_second"] > 0


def test_validation_reports_on_and_off(trained):
    folder, model, _ = trained
    records = by_step(folder, "val")
    assert list(records) == [4, 8, 12, 14]  # every 4 steps and after the last
    last = records[14]
    assert last["val/loss"] == last["val/on/loss"] != last["val/off/loss"]
    model.eval()
    for condition in ("on", "off"):
        nats = tokens = num_bytes = 0.0
        for batch in small_datamodule(small_config()).val_dataloader():
            neighbours = batch["neighbour_ids"] if condition == "on" else None
            with torch.no_grad():
                nats += model.token_nats(
                    batch["input_ids"], batch["targets"], neighbours, batch["document_ids"]
                ).sum()
            tokens += (batch["targets"] != -100).sum()
            num_bytes += batch["target_bytes"].sum()
        assert last[f"val/{condition}/loss"] == pytest.approx((nats / tokens).item(), rel=1e-5)
        bits = (nats / math.log(2) / num_bytes).item()
        assert last[f"val/{condition}/bpb"] == pytest.approx(bits, rel=1e-5)


def test_the_baseline_reports_one_condition(tmp_path):
    small_fit(tmp_path, small_config(), retrieval=False, steps=4)
    record = by_step(tmp_path, "val")[4]
    assert {name for name in record if "/" in name} == {"val/loss", "val/ppl", "val/bpb"}
    assert "train/coverage" not in by_step(tmp_path, "train")[3]


def test_training_learns(trained):
    records = list(by_step(trained[0], "train").values())
    assert records[-1]["train/loss"] < records[0]["train/loss"] - 0.1


def test_dropout_follows_the_seed_and_nothing_else(tmp_path, trained):
    torch.manual_seed(99)  # what the process did before is of no account
    again = small_model()
    torch.rand(7)
    small_fit(tmp_path / "same", small_config(), model=again)
    weights = trained[1].state_dict()
    assert all(torch.equal(v, weights[n]) for n, v in again.state_dict().items())
    none, _ = small_fit(tmp_path / "none", small_config(), model=small_model(dropout=0.0))
    assert any(not torch.equal(v, weights[n]) for n, v in none.state_dict().items())


def test_the_best_checkpoint_has_the_lowest_validation_loss(tmp_path):
    config = small_config(optim=AdamWConfig(lr=0.1))  # gets worse after a while
    _, result = small_fit(tmp_path, config)
    losses = {step: r["val/loss"] for step, r in by_step(tmp_path, "val").items()}
    best = torch.load(result.best, weights_only=True)
    assert best["global_step"] == min(losses, key=lambda step: losses[step])
    assert best["global_step"] != max(losses), "the last weights would pass for the best"
    assert "optimizer_states" not in best


def test_checkpoints_load_as_plain_values_and_hold_the_model(trained):
    folder, model, result = trained
    assert result.last == checkpoint_folder(folder) / LAST
    weights = model_weights(result.last)
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[n], v) for n, v in model.state_dict().items())
    state = torch.load(result.last, weights_only=True)
    assert state["RetroDataModule"]["samples_consumed"] == 14 * 4


def test_the_result_counts_steps_and_speed(trained):
    result = trained[2]
    assert result.steps == 14
    assert result.seconds > 0
    assert result.tokens_per_second > 0


def test_steps_rate_and_warm_up_can_be_overridden(tmp_path):
    schedule = replace(small_config().schedule, steps=3, warmup_steps=5)
    _, result = small_fit(tmp_path, small_config(), schedule=schedule, lr=0.5)
    assert result.steps == 3
    assert by_step(tmp_path, "train")[3]["train/lr"] == pytest.approx(0.5 * 3 / 6)


def test_a_frozen_backbone_stays_and_off_stays_the_baseline(tmp_path):
    model = small_model()
    model.freeze_backbone()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    small_fit(tmp_path, small_config(), model=model)
    moved = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert moved
    assert moved <= model.retrieval_parameters()
    losses = {r["val/off/loss"] for r in by_step(tmp_path, "val").values()}
    assert len(losses) == 1


def plain_steps(folder, **changes):
    """How far each weight went in three steps, with an optimiser that goes along the gradient.

    Adam's usual step has the gradient's sign and hides its length; a large eps keeps both.
    """
    optim = AdamWConfig(lr=1.0, weight_decay=0.0, clip=changes.pop("clip", None), eps=100.0)
    config = small_config(optim=optim, log_every=1, **changes)
    model = small_model(dropout=0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small_fit(folder, config, model=model, steps=3)
    return {name: value - before[name] for name, value in model.state_dict().items()}


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_trains_as_the_whole_batch_does(tmp_path, accumulate: int) -> None:
    batch = next(iter(small_datamodule(small_config()).train_dataloader()))
    rows = (batch["targets"] != -100).sum(1).view(accumulate, -1).sum(1)
    assert len(set(rows.tolist())) > 1, "micro-batches of equally many tokens would show nothing"
    whole = plain_steps(tmp_path / "whole")
    parts = plain_steps(tmp_path / "parts", accumulate=accumulate)
    assert max(value.abs().max() for value in whole.values()) > 1e-3
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-6, msg=name)
    one, other = (by_step(tmp_path / name, "train") for name in ("whole", "parts"))
    for step, record in one.items():
        for figure in ("train/loss", "train/gradient_norm"):
            assert other[step][figure] == pytest.approx(record[figure], rel=1e-4), (step, figure)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_clipped_to_the_norm_that_was_asked(tmp_path, accumulate: int) -> None:
    def length(steps) -> float:
        return math.sqrt(sum(value.double().pow(2).sum().item() for value in steps.values()))

    limit = 0.01
    clipped = plain_steps(tmp_path / "clipped", clip=limit, accumulate=accumulate)
    norms = [r["train/gradient_norm"] for r in by_step(tmp_path / "clipped", "train").values()]
    assert min(norms) > 10 * limit, "the norm that is logged is the one before clipping"
    rates = [r["train/lr"] for r in by_step(tmp_path / "clipped", "train").values()]
    furthest = sum(rates) * limit / 100  # of eps=100
    assert 0.2 * furthest < length(clipped) <= furthest * 1.01
    assert length(plain_steps(tmp_path / "free", accumulate=accumulate)) > 5 * furthest


def test_without_a_validation_split_the_last_weights_are_the_best(tmp_path):
    config = small_config()
    data = small_datamodule(config)
    data.store = SmallStore(data.store.lengths, data.store.chunk_size)
    phase = Phase.first(config, "training", PAD)
    result = fit(small_model(), data, phase, config, tmp_path)
    assert result.best == result.last
    assert result.steps == 14


def test_a_model_that_diverges_is_a_user_error(tmp_path):
    model = small_model()
    with torch.no_grad():
        model.embedding.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="diverged: the loss is nan at step 3"):
        small_fit(tmp_path, small_config(), model=model)


def test_training_says_nothing_of_its_own(tmp_path, capfd, recwarn):
    small_fit(tmp_path, small_config())
    out, err = capfd.readouterr()
    assert out == ""
    assert "lightning" not in err.lower()
    assert not [w for w in recwarn if "lightning" in str(w.filename)]

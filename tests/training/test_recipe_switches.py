"""Contract of what a recipe does during training: neighbours shown and parameters held back are
functions of seed and step, so that resuming is exact; scoring sees every neighbour."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import small_config, small_datamodule, small_fit, small_model
from small_store import PAD
from trouble import Trouble

from retro_lab.config.schema import Curriculum, RecipeConfig
from retro_lab.training.curriculum import NeighbourCurriculum
from retro_lab.training.loggers import METRICS, read_metrics

STEPS = 14  # of small_config


def diet(kind: str = "none", dropout: float = 0.0, steps: int = STEPS) -> NeighbourCurriculum:
    return NeighbourCurriculum(Curriculum[kind], dropout, steps, PAD)


@given(k=st.integers(1, 9), steps=st.integers(1, 50))
def test_a_growing_diet_goes_from_one_to_all(k: int, steps: int) -> None:
    counts = [diet("growing", steps=steps).count(k, step) for step in range(steps)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    if steps >= k:
        assert set(counts) == set(range(1, k + 1))
        sizes = [counts.count(number) for number in set(counts)]
        assert max(sizes) - min(sizes) <= 1


def test_a_random_diet_shows_every_number_of_the_nearest() -> None:
    ids = torch.arange(3).view(1, 1, 3, 1).expand(2, 5, 3, 4)
    torch.manual_seed(0)
    seen = set()
    for _ in range(50):
        shown = diet("random")(ids, 0)
        seen.add(shown.shape[2])
        assert torch.equal(shown, ids[:, :, : shown.shape[2]])
    assert seen == {1, 2, 3}


def test_dropped_chunks_have_no_neighbours_and_others_all_of_theirs() -> None:
    ids = torch.zeros(40, 50, 2, 4, dtype=torch.long)
    torch.manual_seed(0)
    shown = diet(dropout=0.25)(ids, 0)
    padded = (shown == PAD).all(-1).all(-1)
    assert torch.equal(padded, (shown == PAD).any(-1).any(-1))
    assert padded.float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_a_recipe_without_curriculum_has_no_diet() -> None:
    assert NeighbourCurriculum.of(RecipeConfig(), 5, PAD) is None
    assert NeighbourCurriculum.of(RecipeConfig(neighbour_dropout=0.1), 5, PAD) == diet(
        dropout=0.1, steps=5
    )
    assert NeighbourCurriculum.of(RecipeConfig(k_curriculum=Curriculum.random), 5, PAD) == diet(
        "random", steps=5
    )


def weights_differ(one, other) -> set[str]:
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return {name for (name, value), there in pairs if not torch.equal(value, there)}


@pytest.mark.parametrize("chosen", [diet("random", 0.3), diet("growing"), None], ids=str)
def test_a_diet_and_late_unfreezing_resume_exactly(tmp_path, chosen) -> None:
    def fit(name: str, model=None):
        model = small_model() if model is None else model
        options = {"frozen_until": 7}
        return small_fit(
            tmp_path / name, small_config(), model=model, curriculum=chosen, **options
        )[0]

    whole = fit("whole")
    for after in (5, 9):
        troubled = small_model()
        troubled.__class__, troubled.after = Trouble, after
        with pytest.raises(KeyboardInterrupt):
            fit(f"cut{after}", troubled)
        assert not weights_differ(fit(f"cut{after}"), whole)


def test_a_diet_changes_training_but_not_validation(tmp_path) -> None:
    plain, _ = small_fit(tmp_path / "plain", small_config(), steps=4)
    dropped = diet(dropout=0.5)
    thin, _ = small_fit(tmp_path / "thin", small_config(), steps=4, curriculum=dropped)
    assert weights_differ(plain, thin)
    thin.eval()
    sums = torch.zeros(2)
    for batch in small_datamodule(small_config()).val_dataloader():
        with torch.no_grad():
            nats = thin.token_nats(
                batch["input_ids"], batch["targets"], batch["neighbour_ids"], batch["document_ids"]
            )
        sums += torch.stack([nats.sum(), (batch["targets"] != -100).sum()])
    records = [r for r in read_metrics(tmp_path / "thin" / METRICS) if "val/on/loss" in r]
    assert records[-1]["val/on/loss"] == pytest.approx((sums[0] / sums[1]).item(), rel=1e-5)


def test_held_back_parameters_move_from_their_step_on(tmp_path) -> None:
    def fit(name: str, until: int):
        model = small_model(dropout=0.0)
        config = small_config(val_every=1)
        small_fit(tmp_path / name, config, model=model, steps=6, frozen_until=until)
        records = [r for r in read_metrics(tmp_path / name / METRICS) if "val/off/loss" in r]
        return model, [record["val/off/loss"] for record in records]

    never, losses = fit("never", 6)
    assert len(set(losses)) == 1
    assert weights_differ(never, small_model(dropout=0.0)) <= never.retrieval_parameters()
    _, losses = fit("late", 3)
    assert len(set(losses[:3])) == 1
    assert len(set(losses)) == 1 + 3, "the step after the third moves them"


def test_held_back_throughout_is_frozen(tmp_path) -> None:
    """Nothing of a gradient that is thrown away reaches the clipped norm, decay or moments."""
    held = small_model()
    small_fit(
        tmp_path / "held",
        small_config(),
        model=held,
        frozen_until=STEPS,
    )
    frozen = small_model()
    frozen.freeze_backbone()
    small_fit(tmp_path / "frozen", small_config(), model=frozen)
    assert not weights_differ(held, frozen)


def test_evaluation_may_read_another_number_of_neighbours() -> None:
    config = small_config()
    other = replace(config, eval=replace(config.eval, k=4))
    for chosen, scored in ((config, 2), (other, 4)):
        data = small_datamodule(chosen)
        shapes = {
            "train": next(iter(data.train_dataloader()))["neighbour_ids"].shape[2],
            "curve": next(iter(data.val_dataloader()))["neighbour_ids"].shape[2],
            "scored": next(iter(data.evaluation_loader("validation", data.table)))[
                "neighbour_ids"
            ].shape[2],
        }
        assert shapes == {"train": 2, "curve": 2, "scored": scored}


def test_checkpointing_trains_to_the_same_bits(tmp_path) -> None:
    plain, _ = small_fit(tmp_path / "plain", small_config(), steps=5)
    checkpointed = small_model()
    checkpointed.enable_checkpointing()
    small_fit(tmp_path / "checkpointed", small_config(), model=checkpointed, steps=5)
    assert not weights_differ(plain, checkpointed)
    one, other = (
        [r["train/loss"] for r in read_metrics(tmp_path / name / METRICS) if "train/loss" in r]
        for name in ("plain", "checkpointed")
    )
    assert one == other

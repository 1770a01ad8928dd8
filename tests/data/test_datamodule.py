"""Contract of the data module: training resumes at the samples consumed, validation is bounded
and spread over the split, evaluation covers it, and other data is refused."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from small_store import SmallStore
from small_table import SmallTable

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    ChunkingConfig,
    EvalConfig,
    NeighboursConfig,
    ScheduleConfig,
    TrainerConfig,
)
from retro_lab.data.datamodule import RetroDataModule

LENGTHS = [30, 9, 50, 14, 26, 70, 8, 33]
SPLITS = ["train", "validation", "test", "train"] * 2


def datamodule(*, k: int = 2, retrieval: bool = True, splits=SPLITS, **trainer) -> RetroDataModule:
    store = SmallStore(LENGTHS, 4, splits)
    return RetroDataModule(
        store,
        SmallTable(store) if retrieval else None,
        chunking=ChunkingConfig(4, 1, 16),
        neighbours=NeighboursConfig(k=k, k_store=4),
        schedule=ScheduleConfig(batch_size=3),
        trainer=TrainerConfig(**trainer),
        eval=EvalConfig(batch_size=2),
        seed=1,
        data_keys={"chunks": "abc"},
    )


def first(loader, count: int) -> list[dict[str, torch.Tensor]]:
    return list(islice(loader, count))


def assert_same(one, other) -> None:
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_on_at_the_samples_consumed(workers):
    whole = first(datamodule().train_dataloader(), 9)
    resumed = datamodule(num_workers=workers)
    resumed.load_state_dict({**resumed.state_dict(), "samples_consumed": 12})
    assert_same(first(resumed.train_dataloader(), 5), whole[4:])


@pytest.mark.parametrize(("limit", "windows"), [(3, 3), (1, 1), (None, 9), (100, 9)])
def test_validation_is_bounded_and_spread_evenly(limit, windows):
    module = datamodule(val_windows=limit)
    batches = list(module.val_dataloader())
    documents = torch.cat([batch["document_ids"][:, 0] for batch in batches])
    assert len(documents) == windows
    if limit == 3:  # first and last document of the split, and no batch over the limit
        assert documents[0] == 1
        assert documents[-1] == 5
    assert all(len(batch["targets"]) <= 2 for batch in batches)


def test_evaluation_covers_the_split_with_half_a_window_of_stride():
    module = datamodule()
    assert module.stride == 8
    batches = list(module.evaluation_loader("test", module.table))
    scored = sum((batch["targets"] != -100).sum().item() for batch in batches)
    assert scored == 50 + 8 - 2
    assert "neighbour_ids" in batches[0]
    assert "neighbour_ids" not in next(iter(module.evaluation_loader("test", None)))


def test_an_empty_split_is_named():
    module = datamodule(splits=["train"] * 8)
    assert module.val_dataloader() == []
    with pytest.raises(UserError, match=r"eval\.split=test"):
        module.evaluation_loader("test", None)


def test_a_checkpoint_of_other_data_is_refused_by_name():
    state = datamodule(k=1).state_dict()
    with pytest.raises(UserError, match=r"neighbours\.k: 1 there, 2 here"):
        datamodule().load_state_dict(state)
    with pytest.raises(UserError, match=r"neighbours\.k: 2 there, None here"):
        datamodule(retrieval=False).load_state_dict(datamodule().state_dict())
    datamodule(num_workers=1, accumulate=3).load_state_dict(datamodule().state_dict())


def test_the_state_is_plain(tmp_path):
    torch.save(datamodule().state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == datamodule().state_dict()

"""Contract: what a recipe and the trainer ask for reaches the second phase of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import Golden

from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.verdict import verdict
from retro_lab.nn import Retro
from retro_lab.training.loggers import METRICS, read_metrics


@pytest.fixture
def checkpointed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What `enable_checkpointing` was called with."""
    seen: list[bool] = []
    original = Retro.enable_checkpointing
    monkeypatch.setattr(
        Retro,
        "enable_checkpointing",
        lambda model, enabled=True: (seen.append(enabled), original(model, enabled)),
    )
    return seen


def test_the_second_phase_follows_its_recipe(golden: Golden, checkpointed: list[bool]) -> None:
    run = golden.run(
        "recipe.unfreeze_after=2",
        "recipe.val_every=1",
        "optim@recipe.optim=muon",
        "recipe.lr=0.00123",
        "trainer.checkpointing=true",
        "eval.k=3",
    )
    assert set(checkpointed) == {True}
    records = [r for r in read_metrics(run.path / METRICS) if "val/off/bpb" in r]
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    off = [record["val/off/bpb"] for record in records]
    assert off[0] == off[1]
    assert len(set(off)) == 3, "the backbone moves once it is trained"
    state = torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True)
    parts = state["optimizer_states"][0]["parts"]
    assert len(parts) == 2  # AdamW and Muon
    rates = [group["initial_lr"] for part in parts for group in part["param_groups"]]
    assert min(rates) == pytest.approx(0.00123)
    optim = run.config().recipe.optim
    assert max(rates) == pytest.approx(optim.muon_lr * 0.00123 / optim.lr)
    table = ChunkTable.load(run.chunks_file)
    assert table.neighbours.shape[1] == 3
    assert not np.array_equal(table.nats["off"], table.nats["baseline"])
    found = verdict(Results.load(run.results_file).leakage)
    assert found.off_is_baseline is False


def test_a_frozen_run_says_nothing_of_its_off(golden: Golden) -> None:
    found = verdict(Results.load(golden.run().results_file).leakage)
    assert found.off_is_baseline is True
    assert not any("no longer the baseline" in sentence for sentence in found.sentences)

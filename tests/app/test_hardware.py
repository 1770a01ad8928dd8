"""Contract: hardware that isn't there is one message, before any data is touched."""

from __future__ import annotations

import pytest
import torch
from golden import Golden

from retro_lab.commands.train import main as train


@pytest.mark.parametrize(
    ("found", "more", "said"),
    [
        (0, ["trainer=gpu"], "trainer.accelerator=gpu, but torch finds no GPU"),
        (0, ["trainer=fsdp", "trainer.accelerator=auto"], "trainer.strategy=fsdp: shards a model"),
        (1, ["trainer=gpu", "trainer.devices=4"], "trainer.devices=4, but torch finds 1"),
    ],
)
def test_gpus_that_are_not_there_are_refused(
    golden: Golden,
    found: int,
    more: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    store = golden.folder / "no-store"
    given = [one for one in golden.overrides if not one.startswith("store.dir")]
    assert train([*given, f"store.dir={store}", *more]) == 2
    assert said in capsys.readouterr().err
    assert not store.exists()

"""Contract: the package comes with a small gate over suffix and topic that any model's memory of
these kinds can be read with, and that trusts evidence which agrees with the model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from experts_world import World

from retro_lab.config.schema.memory import SHIPPED as KINDS
from retro_lab.memory.evidence import Text
from retro_lab.memory.memory import SHIPPED, FittedGate, Memory, addends


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("topics"))


def test_it_is_of_every_expert_and_input(world: World) -> None:
    fitted, memory = FittedGate.load(SHIPPED), Memory([world.experts(True)])
    inputs, experts = fitted.positions(memory)
    assert len(fitted.experts) == len(set(experts.tolist())) == len(memory.experts)
    assert len(fitted.inputs) == len(set(inputs.tolist())) == len(memory.inputs)
    assert {name.partition(":")[0] for name in fitted.experts} == KINDS == set(memory.families)


def test_it_is_small_and_in_the_package() -> None:
    files = sorted(SHIPPED.iterdir())
    assert [file.name for file in files] == ["gate.json", "gate.safetensors"]
    assert sum(file.stat().st_size for file in files) < 100_000
    assert Path(__file__).resolve().parents[2] / "retro_lab" in SHIPPED.resolve().parents


def test_it_trusts_long_matches(world: World) -> None:
    fitted, memory = FittedGate.load(SHIPPED), Memory([world.experts(True)])
    unsure = torch.zeros(10)

    def share(length: int) -> float:
        text = Text(np.array(world.chunks.full_texts[2][:length], np.int32))
        return addends(memory, fitted, text, unsure)[1].sum()

    assert share(40) > 0.5
    assert share(40) > share(1) + 0.2

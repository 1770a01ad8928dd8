"""Contract of `accelerate`: other classes for a model's modules, the same weights under the same
names, taken back by `plain`; no kernels where there is no compiler.
"""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from precision import needs_kernels
from shapes import Case, make_case
from torch import nn

from retro_lab.nn import Retro
from retro_lab.nn.cpu import accelerate, compiled, plain
from retro_lab.nn.cpu.copies import DistinctEncoder
from retro_lab.nn.layers import Linear


def classes(model: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in model.modules()]


def nats(case: Case) -> torch.Tensor:
    return case.model.token_nats(case.tokens, case.tokens, case.neighbours)


@needs_kernels
def test_weights_stay_and_classes_come_back() -> None:
    case = make_case()
    model, torch_random = Retro(case.model.config), torch.get_rng_state()
    before, state = classes(model), model.state_dict(keep_vars=True)
    assert accelerate(model) is model
    assert torch.equal(torch.get_rng_state(), torch_random)
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(state)
    assert all(after[name] is state[name] for name in state)
    assert all(issubclass(one, other) for one, other in zip(classes(model), before, strict=True))
    assert classes(model) != before
    assert classes(accelerate(model)) == classes(model)  # twice is once
    assert classes(plain(model)) == before


@needs_kernels
def test_layers_of_other_classes_stay() -> None:
    class Doubled(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = plain(make_case().model)
    model.blocks[0].ff.up = Doubled(12, 16)
    accelerate(model)
    assert type(model.blocks[0].ff.up) is Doubled
    assert type(model.blocks[1].ff.up) is not Linear


@needs_kernels
def test_copies_and_files_of_an_accelerated_model_compute_the_same() -> None:
    case = make_case()
    expected, file = nats(case), io.BytesIO()
    torch.save(case.model, file)
    file.seek(0)
    for other in (copy.deepcopy(case.model), torch.load(file, weights_only=False)):
        assert torch.equal(nats(Case(other, case.tokens, case.neighbours)), expected)


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    compiled.loaded.cache_clear()
    yield
    compiled.loaded.cache_clear()


def test_without_a_compiler_only_copies_of_neighbours_are_spared(no_compiler: None) -> None:
    case = make_case()
    before = classes(plain(case.model))
    expected = nats(case)
    accelerate(case.model)
    changed = {new for new, old in zip(classes(case.model), before, strict=True) if new is not old}
    assert changed == {DistinctEncoder}
    assert torch.equal(nats(case), expected)

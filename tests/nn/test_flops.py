"""Contract: the counted operations are those that PyTorch performs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from shapes import make_case
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from retro_lab.nn.cpu import plain
from retro_lab.nn.flops import count_flops


@pytest.mark.parametrize("num_neighbours", [0, 2])
@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"ff": "swiglu", "value": "continuation"},
        {"value": "neighbour", "encoder_cca_layers": ()},
        {"length": 3},
        {"ngram_rows": 7},
        {"cca_layers": (1, 2, 3), "encoder_cca_layers": (2,), "chunk_size": 5},
    ],
    ids=str,
)
def test_counts_are_those_of_the_forward_pass(choice: dict[str, Any], num_neighbours: int) -> None:
    case = make_case(**choice)
    batch, length = case.tokens.shape
    neighbours = case.neighbours if num_neighbours else None
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        plain(case.model)(case.tokens, neighbours)
    counted = count_flops(case.model.config, batch, length, num_neighbours)
    assert counted.forward == counter.get_total_flops()


def test_the_pointer_is_counted_but_for_its_matching() -> None:
    case = make_case(pointer=True)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        plain(case.model)(case.tokens, case.neighbours)
    counted = count_flops(case.model.config, *case.tokens.shape, 2)
    matching = 2 * 2 * 8 * 2 * 4 * 4 * 16  # two sums over 8 match lengths, [B, U, M, J]
    assert counted.forward == counter.get_total_flops() - matching


def test_a_step_is_three_forward_passes() -> None:
    case = make_case(dtype=torch.float32)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        plain(case.model)(case.tokens, case.neighbours).sum().backward()
    counted = count_flops(case.model.config, *case.tokens.shape, 2)
    assert counted.step == pytest.approx(counter.get_total_flops(), rel=0.01)

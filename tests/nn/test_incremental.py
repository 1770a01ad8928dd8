"""Contract of `step`: fed in any pieces, it says what one full forward pass says, and every
token passes the decoder once and every chunk's neighbours the encoder once.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import POSITIONS, VOCABULARY, Case, cases, in_steps, make_case
from torch import Tensor, nn

from retro_lab.nn.config import PositionKind
from retro_lab.nn.decode import new_cache, step


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, rtol=0.0, atol=tolerance)


def in_pieces(case: Case, lengths: list[int], retrieval: bool = True) -> Tensor:
    """Log-probabilities [B, N, V] of `step` over pieces of given lengths, and one of the rest."""
    return in_steps(case, lengths, retrieval).log_softmax(-1)


def in_one(case: Case, retrieval: bool = True) -> Tensor:
    """Log-probabilities [B, N, V] of a full forward pass."""
    with torch.no_grad():
        neighbours = case.neighbours if retrieval else None
        return case.model(case.tokens, neighbours).log_softmax(-1)


@settings(max_examples=60, deadline=None)
@given(case=cases, lengths=st.lists(st.integers(1, 9), max_size=22), retrieval=st.booleans())
def test_any_pieces_give_the_full_forward(case: Case, lengths: list[int], retrieval: bool) -> None:
    assert_same(in_pieces(case, lengths, retrieval), in_one(case, retrieval))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("prompt", [1, 3, 4, 5, 8, 9])
def test_token_by_token_after_a_prompt_around_a_chunk_end(
    positions: PositionKind, prompt: int
) -> None:
    case = make_case(positions=positions, pointer=True, missing=True)
    assert_same(in_pieces(case, [prompt] + [1] * 18), in_one(case))


@pytest.mark.parametrize("pointer", [False, True])
def test_single_precision(pointer: bool) -> None:
    case = make_case(pointer=pointer, head_dim=16, dtype=torch.float32, length=18)
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.mul_(0.5)  # logits of the size that a trained model has
    assert_same(in_pieces(case, [1] * 18), in_one(case), 1e-5)


def test_a_long_sequence_outgrows_its_buffers() -> None:
    case = make_case(length=150, batch=1)
    assert_same(in_pieces(case, [60] + [1] * 90), in_one(case))


def test_a_chunk_without_a_search_reads_nothing() -> None:
    case = make_case(pointer=True, length=12)
    padded = case.neighbours.clone()
    padded[:, 1] = case.model.config.pad_id
    expected = in_one(Case(case.model, case.tokens, padded))
    cache = new_cache(case.model, 2)
    outputs = [
        step(case.model, case.tokens[:, :4], cache, case.neighbours[:, :1]),
        step(case.model, case.tokens[:, 4:8], cache),
        step(case.model, case.tokens[:, 8:], cache, case.neighbours[:, 2:3]),
    ]
    assert_same(torch.cat(outputs, dim=1).log_softmax(-1), expected)


def test_rows_of_a_batch_differ_in_what_was_found() -> None:
    case = make_case(length=12)
    case.neighbours[0, 1] = case.model.config.pad_id
    assert_same(in_pieces(case, [6, 1, 1, 2]), in_one(case))


def test_each_token_and_each_chunk_is_worked_out_once() -> None:
    case = make_case(length=40, batch=1)
    rows: dict[str, int] = {}

    def counter(name: str) -> Callable[..., None]:
        def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            rows[name] = rows.get(name, 0) + args[0].numel() // args[0].shape[-1]

        return count

    for name, module in case.model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(counter(name))
    in_pieces(case, [5] + [1] * 35)
    neighbour_tokens = case.neighbours[:, :10].numel()
    in_encoder = {name: count for name, count in rows.items() if name.startswith("encoder.")}
    for name, count in in_encoder.items():
        assert count == (40 if "condition.key_value" in name else neighbour_tokens), name
    for name, count in rows.items():
        if name not in in_encoder and ".cca." not in name:
            assert count == 40, name
        elif name.endswith("cca.attention.key_value"):
            assert count == neighbour_tokens, name


def test_wrong_use_is_an_error_that_says_so() -> None:
    case = make_case()
    cache = new_cache(case.model, 2)
    with pytest.raises(ValueError, match=r"\[B, 0, K, R\]"):
        step(case.model, case.tokens[:, :3], cache, case.neighbours[:, :1])
    with pytest.raises(ValueError, match=r"\[B, 2, K, R\]"):
        step(case.model, case.tokens[:, :9], cache, case.neighbours[:, :1])
    with pytest.raises(ValueError, match="no CCA"):
        step(make_case(cca_layers=()).model, case.tokens[:, :4], cache, case.neighbours[:, :1])
    with pytest.raises(ValueError, match="eval"):
        step(case.model.train(), case.tokens[:, :1], cache)
    assert cache.length == 0


def test_a_plain_language_model_steps_too() -> None:
    case = make_case(cca_layers=(), pointer=False)
    found = in_pieces(case, [2, 7, 1], retrieval=False)
    assert found.shape == (2, 18, VOCABULARY)
    assert_same(found, in_one(case, retrieval=False))


@pytest.mark.parametrize("smeared_keys", [False, True])
@pytest.mark.parametrize("positions", ["rotary", "bucket_log"])  # with kernels, and without
def test_a_step_that_fails_leaves_the_cache_as_it_was(
    positions: PositionKind, smeared_keys: bool
) -> None:
    case = make_case(smeared_keys=smeared_keys, positions=positions, length=6)
    cache = new_cache(case.model, 2)
    outputs = [step(case.model, case.tokens[:, :5], cache, case.neighbours[:, :1])]
    with pytest.raises((RuntimeError, ValueError)):
        step(case.model, case.tokens[:1, 5:6].expand(3, 1), cache)
    outputs.append(step(case.model, case.tokens[:, 5:6], cache))
    assert_same(torch.cat(outputs, dim=1).log_softmax(-1), in_one(case))


class Doubled(nn.Linear):
    """Another layer in a matrix's place."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "place", ["attention.qkv", "attention.out", "ff.up", "cca.attention.query"]
)
@pytest.mark.parametrize("how", ["layer", "method", "hook", "hook on all"])
def test_a_step_heeds_what_stands_in_a_layers_place(place: str, how: str) -> None:
    """As adapters and offloading do; kernels would take the weights alone."""
    case = make_case()
    before = in_one(case)
    block = case.model.blocks[1]
    layer, (parent, _, name) = block.get_submodule(place), place.rpartition(".")
    assert isinstance(layer, nn.Linear)
    handle = None
    if how == "layer":
        other = Doubled(layer.in_features, layer.out_features, bias=False, dtype=torch.float64)
        other.weight = layer.weight
        setattr(block.get_submodule(parent), name, other)
    elif how == "method":
        layer.forward = lambda x: 2 * x @ layer.weight.t()
    elif how == "hook":
        layer.register_forward_hook(lambda module, given, out: 2 * out)
    else:
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, given, out: 2 * out if module is layer else out
        )
    try:
        found, expected = in_pieces(case, [5] + [1] * 13), in_one(case)
    finally:
        if handle is not None:
            handle.remove()
    assert_same(found, expected)
    assert not torch.allclose(expected, before, atol=1e-3)

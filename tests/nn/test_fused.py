"""Contract: the CPU's own arithmetic gives the results and gradients of the plain operations, which
serve where there are no kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import needs_kernels
from shapes import Case, cases, make_case
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import Node

from retro_lab.nn.cpu import accelerate, fused, plain

pytestmark = needs_kernels
few = settings(max_examples=25, deadline=None)


@contextmanager
def in_place_of(name: str, value: object) -> Iterator[None]:
    """Changes an attribute of `fused` for a while."""
    before = getattr(fused, name)
    setattr(fused, name, value)
    try:
        yield
    finally:
        setattr(fused, name, before)


def nats_and_gradients(case: Case) -> tuple[Tensor, list[Tensor | None]]:
    targets = case.tokens.roll(-1, 1)
    targets[:, -1] = -100
    nats = case.model.token_nats(case.tokens, targets, case.neighbours)
    weights = torch.linspace(0.5, 2, nats.numel(), dtype=nats.dtype).view_as(nats)
    loss = (nats * weights).sum()
    return nats, list(
        torch.autograd.grad(loss, list(case.model.parameters()), allow_unused=True)
        if loss.requires_grad
        else []
    )


@given(cases, st.integers(1, 30))
@few
def test_it_agrees_with_plain_operations(case: Case, rows: int) -> None:
    with in_place_of("ROWS", rows), in_place_of("LOGIT_ROWS", rows):
        nats, gradients = nats_and_gradients(case)
    plainly, expected = nats_and_gradients(replace(case, model=plain(case.model)))
    torch.testing.assert_close(nats, plainly, rtol=1e-9, atol=1e-9)
    for one, two in zip(gradients, expected, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(
            zero if one is None else one, zero if two is None else two, rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize("rows", [1, 3, 7, 36])
def test_places_go_on_from_block_to_block(rows: int) -> None:
    """Drawn cases seldom have what this needs: keys that are turned as they are projected."""
    case = make_case(positions="rotary", smeared_keys=False)
    nats, gradients = nats_and_gradients(case)
    with in_place_of("ROWS", rows):
        own, again = nats_and_gradients(case)
    torch.testing.assert_close(own, nats, rtol=1e-9, atol=1e-9)
    for one, two in zip(again, gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)


def test_it_agrees_in_single_precision() -> None:
    case = make_case(batch=3, length=22, smeared_keys=False, dtype=torch.float32)
    nats, gradients = nats_and_gradients(case)
    plainly, expected = nats_and_gradients(replace(case, model=plain(case.model)))
    torch.testing.assert_close(nats, plainly, rtol=1e-5, atol=1e-5)
    for one, two in zip(gradients, expected, strict=True):
        assert one is not None
        assert two is not None
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5 * two.abs().max().item())


def test_frozen_weights_get_no_gradient_and_a_graph_can_be_used_twice() -> None:
    case = make_case()
    ff = case.model.blocks[0].ff
    ff.up.weight.requires_grad_(False)
    case.model.blocks[1].attention.qkv.weight.requires_grad_(False)
    nats = case.model.token_nats(case.tokens, case.tokens, case.neighbours).sum()
    nats.backward(retain_graph=True)
    assert ff.up.weight.grad is None
    once = ff.down.weight.grad.clone()
    nats.backward()
    torch.testing.assert_close(ff.down.weight.grad, 2 * once)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_left_to_plain_operations(dtype: torch.dtype) -> None:
    assert not fused.fits(torch.zeros(1, dtype=dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.fits(torch.zeros(1))
    assert fused.fits(torch.zeros(1))


def graph(node: Node | None) -> set[Node]:
    """All operations that a gradient goes through."""
    seen, waiting = set(), [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return seen


@pytest.mark.parametrize("smeared", [False, True])
@pytest.mark.parametrize("positions", ["rotary", "none"])
def test_every_part_of_the_shapes_above_goes_to_the_kernels(positions: str, smeared: bool) -> None:
    case = make_case(positions=positions, missing=True, smeared_keys=smeared)
    nats, _ = nats_and_gradients(case)
    # three decoder blocks, two CCAs, two encoder blocks that both read the chunk
    counts = Counter(type(node).__name__ for node in graph(nats.grad_fn))
    assert counts["_AttentionBackward"] == 9
    assert counts["_FeedForwardBackward"] == 5
    assert counts["_LinearCrossEntropyBackward"] == 1


def test_who_listens_to_a_module_hears_it() -> None:
    case = make_case(smeared_keys=True)
    plain(case.model)
    expected, _ = nats_and_gradients(case)
    accelerate(case.model)
    block, heard = case.model.blocks[0], []
    for name in ("attention.out", "attention.qkv", "attention.smear", "attention_norm", "ff.up"):
        block.get_submodule(name).register_forward_hook(lambda *_, name=name: heard.append(name))
    nats, _ = nats_and_gradients(case)
    assert heard == [
        "attention_norm",
        "attention.qkv",
        "attention.smear",
        "attention.out",
        "ff.up",
    ]
    torch.testing.assert_close(nats, expected, rtol=1e-9, atol=1e-9)


def test_who_asks_for_shapes_alone_gets_them_from_plain_operations() -> None:
    case = make_case()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        ids = [mode.from_tensor(ids) for ids in (case.tokens, case.neighbours)]
        assert case.model(*ids).shape == (2, 18, 23)


def test_a_scripted_model_is_one_of_plain_operations() -> None:
    seen: list[bool] = []
    torch.jit.trace(lambda x: (seen.append(fused.fits(x)), x + 1)[1], torch.zeros(1))
    assert seen[0] is False


@pytest.mark.parametrize("target", [-1, 7, 100])
def test_a_target_outside_of_the_vocabulary_is_an_error(target: int) -> None:
    targets = torch.tensor([0, -100, target])
    with pytest.raises(IndexError, match="-100 or from 0 to 6"):
        fused.linear_cross_entropy(torch.zeros(3, 4), torch.zeros(7, 4), targets, -100)


def test_inputs_need_not_be_in_one_piece_nor_be_any() -> None:
    case = make_case()
    ff, norm = case.model.blocks[0].ff, case.model.blocks[0].ff_norm
    wide = torch.randn(3, 2 * 12, dtype=torch.float64, requires_grad=True)

    def both_ways() -> list[Tensor]:
        x = wide[:, :12]
        loss = case.model.blocks[0].residual(x, norm, ff).square().sum()
        return list(torch.autograd.grad(loss, [wide, ff.up.weight]))

    own = both_ways()
    with in_place_of("ROWS", 2):
        for one, two in zip(own, both_ways(), strict=True):
            torch.testing.assert_close(one, two)
    x = wide[:, :12]
    normed = torch.nn.functional.rms_norm(x, (12,), norm.weight, norm.eps)
    plain = (x + ff(normed)).square().sum()
    expected = torch.autograd.grad(plain, [wide, ff.up.weight])
    for one, two in zip(own, expected, strict=True):
        torch.testing.assert_close(one, two)
    assert case.model(case.tokens[:0]).shape == (0, 18, 23)


def test_read_out_has_the_gradients_of_its_values() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(n, 4, generator=generator, dtype=torch.float64).requires_grad_() for n in (5, 7)
    )
    targets = torch.tensor([3, -100, 0, 6, -100])
    with in_place_of("LOGIT_ROWS", 2):
        assert torch.autograd.gradcheck(
            lambda x, w: fused.linear_cross_entropy(x, w, targets, -100), (hidden, weight)
        )

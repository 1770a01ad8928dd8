"""Contract: a generated token goes through a layer as PyTorch's plain operations would take it, in
any precision, for any number of rows, and the past gains its key and value in the right place.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import both, close, cos_sin, needs_kernels, randn
from shapes import Case, cases, in_steps, make_case
from torch import Tensor

from retro_lab.nn.cpu import fused_token, plain
from retro_lab.nn.cpu.fused_attention import Weights
from retro_lab.nn.cpu.fused_token import Past
from retro_lab.nn.cpu.modules import TokenSteps, can_fuse, weights_of
from retro_lab.nn.decode import new_cache, step
from retro_lab.nn.decode.steps import Steps, steps_for
from retro_lab.nn.layers import EPSILON
from retro_lab.nn.positions import CosSin, rotate

pytestmark = needs_kernels
HEADS, INPUTS = 3, 21
WIDTHS = [16, 48, 80]  # of a head: some of the widest vector there is


@both
@pytest.mark.parametrize(("rows", "width"), [(1, 5), (1, 64), (3, 37), (8, 16)])
def test_gemv(rows: int, width: int, dtype: torch.dtype) -> None:
    for outputs in (11, 75):  # less than a thread takes at a time, and no whole number of that
        x, weight = randn(rows, width), randn(outputs, width, seed=1)
        close(fused_token.gemv(x.to(dtype), weight.to(dtype)), x @ weight.t())
    part = randn(rows, 2 * width, dtype=dtype)[:, :width]  # not in one piece
    across = randn(width, 11, dtype=dtype).t()
    close(fused_token.gemv(part, across), part.double() @ across.double().t())
    with pytest.raises(ValueError, match=f"{width} features for weights of {width + 1}"):
        fused_token.gemv(part, randn(11, width + 1, dtype=dtype))
    with pytest.raises(TypeError, match="all tensors must be"):
        fused_token.gemv(part, weight.half())


@both
@pytest.mark.parametrize(("rows", "width", "inner"), [(1, 5, 3), (2, 64, 40), (8, 37, 75)])
def test_feed_forward(rows: int, width: int, inner: int, dtype: torch.dtype) -> None:
    x, gain = randn(rows, 1, width), randn(width, seed=1)
    up, down = randn(inner, width, seed=2), randn(width, inner, seed=3)
    normed = F.rms_norm(x, (width,), gain, EPSILON)
    expected = x + F.gelu(normed @ up.t(), approximate="tanh") @ down.t()
    own = [part.to(dtype) for part in (x, gain, up, down)]
    close(fused_token.feed_forward(*own), expected)
    with pytest.raises(ValueError, match=rf"{width} features, \[{inner}, {width}\] up and"):
        fused_token.feed_forward(own[0], own[1], own[2], own[2])


@dataclass
class Token:
    """A token of each row, its layer and what it looks back at, in double precision.

    Attributes:
        x: [B, 1, D].
        keys, values: [B, H, C, P] with room for more places than `seen`.
        last: [B, H, 1, P].
        gain: [D], None for a layer without a norm.
    """

    x: Tensor
    keys: Tensor
    values: Tensor
    last: Tensor
    seen: int
    gain: Tensor | None
    share: Tensor
    out: Tensor

    @staticmethod
    def of(rows: int, seen: int, width: int = WIDTHS[0]) -> Token:
        held = rows, HEADS, seen + 5, width
        return Token(
            x=randn(rows, 1, INPUTS),
            keys=randn(*held, seed=1),
            values=randn(*held, seed=2),
            last=randn(rows, HEADS, 1, width, seed=3),
            seen=seen,
            gain=randn(INPUTS, seed=4),
            share=torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64),
            out=randn(INPUTS, HEADS * width, seed=5),
        )

    def first(self, parts: int) -> Tensor:
        return randn(parts * HEADS * self.keys.shape[-1], INPUTS, seed=6) / 4

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Projections [B, H, 1, P] of x."""
        projected = x @ self.first(parts).t()
        return projected.unflatten(-1, (parts, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def cos_sin_of(kind: str, rows: int, width: int, dtype: torch.dtype) -> CosSin | None:
    if kind == "none":
        return None
    if kind == "shared":
        return cos_sin(1, width, dtype, start=7)
    each = [cos_sin(1, width, dtype, start=7 + row) for row in range(rows)]
    cosines, sines = (torch.stack(wave).unsqueeze(1) for wave in zip(*each, strict=True))
    return cosines, sines


def mask_of(kind: str, rows: int, seen: int) -> Tensor | None:
    if kind == "none":
        return None
    allowed = randn(rows if kind == "rows" else 1, 1, 1, seen, seed=8) > 0
    return allowed.index_fill(-1, torch.tensor([seen - 1]), True)


drawn = {
    "rows": st.integers(1, 8),
    "width": st.sampled_from(WIDTHS),
    "seen": st.integers(1, 70),
    "rotated": st.sampled_from(["none", "shared", "rows"]),
    "hidden": st.sampled_from(["none", "shared", "rows"]),
}


@both
@given(smeared=st.booleans(), **drawn)
@settings(max_examples=40, deadline=None)
def test_self_attention(
    rows: int, width: int, seen: int, rotated: str, hidden: str, smeared: bool, dtype: torch.dtype
) -> None:
    layer, exact, mask = Token.of(rows, seen, width), torch.float64, mask_of(hidden, rows, seen)
    assert layer.gain is not None
    normed = F.rms_norm(layer.x, (INPUTS,), layer.gain, EPSILON)
    query, raw, value = layer.split(normed, 3)
    key = torch.lerp(raw, layer.last, layer.share.view(-1, 1, 1)) if smeared else raw
    table = cos_sin_of(rotated, rows, width, exact)
    if table is not None:
        query, key = rotate(query, table), rotate(key, table)
    keys = torch.cat((layer.keys[:, :, : seen - 1], key), dim=2)
    values = torch.cat((layer.values[:, :, : seen - 1], value), dim=2)
    read = F.scaled_dot_product_attention(query, keys, values, mask)
    expected = layer.x + read.transpose(1, 2).flatten(2) @ layer.out.t()

    own_keys, own_values, last = (
        part.to(dtype, copy=True) for part in (layer.keys, layer.values, layer.last)
    )
    past = Past(
        own_keys,
        own_values,
        seen,
        cos_sin_of(rotated, rows, width, dtype),
        mask,
        grows=True,
        last=last if smeared else None,
    )
    found = fused_token.attention(layer.x.to(dtype), weights(layer, 3, dtype), past, residual=True)
    close(found, expected)
    close(own_keys[:, :, :seen], keys)
    close(own_values[:, :, :seen], values)
    close(last, raw if smeared else layer.last)
    assert torch.equal(own_keys[:, :, seen:], layer.keys[:, :, seen:].to(dtype))


@both
@given(**drawn)
@settings(max_examples=40, deadline=None)
def test_cross_attention(
    rows: int, width: int, seen: int, rotated: str, hidden: str, dtype: torch.dtype
) -> None:
    layer, mask = Token.of(rows, seen, width), mask_of(hidden, rows, seen)
    layer.gain = None
    (query,) = layer.split(layer.x, 1)
    table = cos_sin_of(rotated, rows, width, torch.float64)
    query = query if table is None else rotate(query, table)
    keys, values = layer.keys[:, :, :seen], layer.values[:, :, :seen]
    read = F.scaled_dot_product_attention(query, keys, values, mask)
    own = [part.to(dtype, copy=True) for part in (layer.keys, layer.values)]
    before = [part.clone() for part in own]
    past = Past(own[0], own[1], seen, cos_sin_of(rotated, rows, width, dtype), mask)
    found = fused_token.attention(layer.x.to(dtype), weights(layer, 1, dtype), past, residual=False)
    close(found, read.transpose(1, 2).flatten(2) @ layer.out.t())
    assert all(map(torch.equal, own, before))


def weights(layer: Token, parts: int, dtype: torch.dtype) -> Weights:
    gain = None if layer.gain is None else layer.gain.to(dtype)
    first, out = layer.first(parts).to(dtype), layer.out.to(dtype)
    return Weights(gain, layer.share.to(dtype), first, None, out)


def test_who_may_look_nowhere_reads_nothing() -> None:
    layer, mask = Token.of(2, 6), torch.ones(2, 1, 1, 6, dtype=torch.bool)
    mask[1] = False
    past = Past(layer.keys, layer.values, 6, None, mask)
    found = fused_token.attention(layer.x, weights(layer, 1, torch.float64), past, residual=True)
    assert torch.equal(found[1], layer.x[1])
    assert not torch.equal(found[0], layer.x[0])


def test_rows_need_not_be_in_one_piece() -> None:
    layer = Token.of(2, 6)
    past = Past(layer.keys, layer.values, 6, None, None)
    own = weights(layer, 1, torch.float64)
    across = layer.x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not across.is_contiguous()
    for x in (layer.x, across):
        found = fused_token.attention(x, own, past, residual=True)
        close(found, fused_token.attention(layer.x, own, past, residual=False) + layer.x)
    up, down = randn(8, INPUTS, seed=2), randn(INPUTS, 8, seed=3)
    assert own.gain is not None
    one, two = (fused_token.feed_forward(x, own.gain, up, down) for x in (layer.x, across))
    assert torch.equal(one, two)


def test_what_does_not_fit_is_an_error() -> None:
    layer = Token.of(2, 6)
    own = weights(layer, 1, torch.float64)
    past = Past(layer.keys, layer.values, 6, None, None)
    rotation, apart = cos_sin(1, 16, torch.float64), torch.cat((layer.keys,) * 2, dim=2)[:, :, :11]
    broken: list[tuple[Past, Weights]] = [
        (past._replace(seen=12), own),
        (past._replace(seen=0), own),
        (past._replace(values=layer.values[:, :, :7].contiguous()), own),
        (past._replace(keys=apart), own),
        (past._replace(values=apart), own),
        (past._replace(grows=True), own),
        (past._replace(cos_sin=cos_sin(5, 16, torch.float64)), own),
        (past._replace(cos_sin=(rotation[0], rotation[1][:, :8])), own),
        (past._replace(last=layer.last[:1]), own),
        (past._replace(last=apart[:, :, :2, :].transpose(2, 3)[:, :, :1]), own),
        (past._replace(mask=torch.ones(2, 1, 1, 5).bool()), own),
        (past, own._replace(gain=own.out[0, :3])),
        (past, own._replace(share=torch.ones(1))),
        (past, own._replace(out=own.first)),
    ]
    for some, used in broken:
        with pytest.raises(ValueError, match=r"don't fit together: \d+ places seen of {'x': "):
            fused_token.attention(layer.x, used, some, residual=True)
    with pytest.raises(ValueError, match="don't fit together"):
        fused_token.attention(layer.x[:1], own, past, residual=True)
    for some in (
        past._replace(values=layer.values.float()),
        past._replace(mask=torch.ones(1, 1, 1, 6)),
    ):
        with pytest.raises(TypeError, match="what is held must be torch"):
            fused_token.attention(layer.x, own, some, residual=True)
    away = own._replace(first=own.first.to("meta"))
    with pytest.raises(ValueError, match="in the memory of the CPU"):
        fused_token.attention(layer.x, away, past, residual=True)


def test_threads_do_not_change_a_bit() -> None:
    layer, threads = Token.of(3, 50), torch.get_num_threads()
    own = weights(layer, 1, torch.float64)
    past = Past(layer.keys, layer.values, 50, None, None)

    def everything(number: int) -> list[Tensor]:
        torch.set_num_threads(number)
        read = fused_token.attention(layer.x, own, past, residual=True)
        return [read, fused_token.gemv(layer.x, own.first)]

    try:
        alone, together = everything(1), everything(3)
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, alone, together))


def test_rows_that_become_few_go_on_as_before() -> None:
    """Nine rows go through plain operations, eight through the kernels."""
    case = make_case(batch=9, length=40, smeared_keys=True)
    cache, rows, outputs = new_cache(case.model, 9), torch.arange(9), []
    for place in range(40):
        chunk, ends = divmod(place + 1, case.chunk_size)
        found = case.neighbours[rows, chunk - 1 : chunk] if not ends else None
        outputs.append(step(case.model, case.tokens[rows, place : place + 1], cache, found)[:7])
        if place == 21:
            rows = rows[:8]
            cache.reorder(rows)
    with torch.no_grad():
        expected = case.model(case.tokens, case.neighbours)[:7]
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected, rtol=1e-9, atol=1e-9)


@given(case=cases)
@settings(max_examples=25, deadline=None)
def test_generation_without_kernels_says_the_same(case: Case) -> None:
    token_by_token = [1] * case.tokens.shape[1]
    own = in_steps(case, token_by_token)
    plain(case.model)
    expected = in_steps(case, token_by_token)
    torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)


def test_tokens_of_small_models_do_go_through_the_kernels() -> None:
    """Or the test above would compare plain operations with themselves."""
    model, x = make_case().model, randn(2, 1, 12)
    with torch.no_grad():
        assert type(steps_for(model, x, None)) is TokenSteps
        assert fused_token.fits(x)
    assert type(steps_for(model, x, None)) is Steps  # a gradient is wanted
    for block in model.blocks:
        attention = block.attention
        assert weights_of(attention, block.attention_norm, attention.qkv, smear=attention.smear)
        assert can_fuse(block.ff_norm, block.ff)
        assert block.cca is None or weights_of(block.cca.attention, None, block.cca.attention.query)

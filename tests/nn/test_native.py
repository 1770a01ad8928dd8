"""Contract: each C kernel computes what PyTorch does in double precision, in any shape and at any
number of threads; where there is no compiler there are no kernels, and nothing else happens.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retro_lab.nn import native

needs_kernels = pytest.mark.skipif(
    native.library(torch.float32) is None, reason="no C compiler with OpenMP here"
)
both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
WIDTH = 16  # of a head: as many as any vector has
EXTREMES = [0.0, -0.0, 1e-30, 12.0, -12.0, 80.0, -80.0, 1e4, -1e4, 1e30, -1e30]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(own: Tensor, expected: Tensor) -> None:
    """Equal up to rounding in the precision of `own`, relative to the largest entry, at least 1."""
    exact = 1e-12 if own.dtype == torch.float64 else 1e-5
    size = max(expected.abs().max().item(), 1.0)
    torch.testing.assert_close(own.double(), expected, rtol=exact, atol=exact * size)


@needs_kernels
@both
def test_gelu_is_the_tanh_form(dtype: torch.dtype) -> None:
    x = torch.cat((torch.linspace(-13, 13, 2601), torch.tensor(EXTREMES))).double()
    x.requires_grad_()
    expected = F.gelu(x, approximate="tanh")
    (slope,) = torch.autograd.grad(expected.sum(), x)
    own, grad = x.detach().to(dtype), torch.ones_like(x, dtype=dtype)
    close(native.gelu(own)[:-2], expected.detach()[:-2])
    close(native.gelu_backward(own, grad)[:-2], expected.detach()[:-2])
    close(grad[:-2], slope[:-2])
    assert native.gelu(own)[-2:].tolist() == own[-2:].clamp_min(0).tolist()


@needs_kernels
@both
@pytest.mark.parametrize("width", [5, 7, 16, 33])
def test_rms_norm(width: int, dtype: torch.dtype) -> None:
    x, grad, beside = (randn(35, width, seed=seed) for seed in range(3))
    gain = randn(width, seed=3)
    x.requires_grad_(), gain.requires_grad_()
    expected = F.rms_norm(x, (width,), gain, 1e-6)
    of_x, of_gain = torch.autograd.grad((expected * grad).sum(), (x, gain))
    own = [part.detach().to(dtype) for part in (x, gain, grad, beside)]
    close(native.rms_norm(own[0], own[1], 1e-6), expected.detach())
    for more, added in ((None, 0.0), (own[3], beside)):
        grad_gain = torch.ones(width, dtype=dtype)
        close(native.rms_norm_backward(*own[:2], 1e-6, own[2], grad_gain, more), of_x + added)
        close(grad_gain, of_gain + 1)


@needs_kernels
@both
@pytest.mark.parametrize(("rows", "width"), [(1, 5), (1, 64), (3, 37), (8, 16)])
def test_few_rows(rows: int, width: int, dtype: torch.dtype) -> None:
    x, weight = randn(rows, width), randn(11, width, seed=1)
    close(native.few_rows(x.to(dtype), weight.to(dtype)), x @ weight.t())
    part = randn(rows, 2 * width, dtype=dtype)[:, :width]  # not in one piece
    across = randn(width, 11, dtype=dtype).t()
    close(native.few_rows(part, across), part.double() @ across.double().t())
    with pytest.raises(ValueError, match=f"{width} features for weights of {width + 1}"):
        native.few_rows(part, randn(11, width + 1, dtype=dtype))
    with pytest.raises(TypeError, match="all tensors must be"):
        native.few_rows(part, weight.half())


@needs_kernels
@both
@pytest.mark.parametrize("vocabulary", [1, 7, 16, 50])
def test_surprise_is_cross_entropy(vocabulary: int, dtype: torch.dtype) -> None:
    logits = 20 * randn(6, vocabulary)
    targets = torch.arange(6) % vocabulary
    targets[2] = -100
    own = logits.to(dtype)
    logits = own.double().requires_grad_()
    nats = F.cross_entropy(logits, targets, reduction="none")
    (grad,) = torch.autograd.grad(nats.sum(), logits)
    close(native.surprise(own, targets), nats.detach())
    close(own, grad)


@needs_kernels
@both
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_no_number_stays_so(poison: float, dtype: torch.dtype) -> None:
    logits = randn(2, 20, dtype=dtype)
    logits[1, 17] = poison
    nats = native.surprise(logits, torch.tensor([0, 0]))
    assert nats.isfinite().tolist() == [True, False]
    query, key, value = parts(length=3, keys=5, dtype=dtype)
    key[:, :, 4] = poison
    assert not native.attend(query, key, value, None, causal=False)[0].isfinite().any()
    assert native.attend(query, key[:, :, :3], value[:, :, :3], None, True)[0].isfinite().all()


@needs_kernels
@both
@pytest.mark.parametrize("first", [0, 3])
def test_turning_there_and_back(first: int, dtype: torch.dtype) -> None:
    rows, angles = randn(9, 3 * 2 * 6, dtype=dtype), randn(4, 3)
    turns = tuple(
        torch.cat((sign * wave, wave), dim=-1).to(dtype)
        for sign, wave in ((1, angles.cos()), (-1, angles.sin()))
    )
    part = rows.clone().chunk(3, dim=-1)[1]
    x = part.unflatten(-1, (2, 6)).double()
    cosines, sines = (t.double()[(first + torch.arange(9)) % 4].unsqueeze(1) for t in turns)
    expected = x * cosines + x.roll(3, -1) * sines
    native.turn(part, 2, turns, first)  # pyright: ignore
    close(part.unflatten(-1, (2, 6)), expected)
    native.turn(part, 2, turns, first, back=True)  # pyright: ignore
    close(part, rows.double().chunk(3, dim=-1)[1])


def parts(
    length: int, keys: int, batch: int = 2, heads: int = 3, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as projections leave them: heads of one row side by side."""
    query = randn(batch, length, heads * WIDTH, seed=1, dtype=dtype)
    held = randn(batch, keys, 2 * heads * WIDTH, seed=2, dtype=dtype)
    key, value = held.chunk(2, dim=-1)
    one, two, three = (x.unflatten(-1, (heads, WIDTH)).transpose(1, 2) for x in (query, key, value))
    return one, two, three


def mask_of(kind: str, batch: int, length: int, keys: int) -> Tensor | None:
    if kind == "none":
        return None
    size = {"keys": (batch, 1, 1, keys), "all": (batch, 1, length, keys), "shared": (1, 1, 1, keys)}
    allowed = randn(*size[kind], seed=5) > 0
    return allowed.index_fill(-1, torch.tensor([0]), True)  # every row may look somewhere


@needs_kernels
@both
@given(
    length=st.integers(1, 140),
    keys=st.integers(1, 70),
    batch=st.integers(1, 3),
    kind=st.sampled_from(["none", "keys", "all", "shared"]),
    causal=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_attention_and_its_gradients(
    length: int, keys: int, batch: int, kind: str, causal: bool, dtype: torch.dtype
) -> None:
    keys = length if causal else keys
    own = parts(length, keys, batch, dtype=dtype)
    mask = mask_of(kind, batch, length, keys)
    grad = randn(batch, 3, length, WIDTH, seed=7)
    visible = torch.ones(length, keys, dtype=torch.bool)
    visible = visible.tril() if causal else visible
    visible = visible if mask is None else visible & mask
    exact = [part.double().requires_grad_() for part in own]
    expected = F.scaled_dot_product_attention(*exact, visible)
    assert native.can_attend(*own, mask)
    out, log_sum = native.attend(*own, mask, causal)
    close(out, expected.detach())
    gradients = native.attend_backward(*own, mask, causal, out, log_sum, grad.to(dtype))
    for one, two in zip(
        gradients, torch.autograd.grad((expected * grad).sum(), exact), strict=True
    ):
        close(one, two)


@needs_kernels
@both
def test_who_may_look_nowhere_reads_nothing_and_what_is_hidden_weighs_nothing(
    dtype: torch.dtype,
) -> None:
    query, key, value = parts(4, 6, dtype=dtype)
    mask = torch.ones(2, 1, 4, 6, dtype=torch.bool)
    mask[1, :, 2] = False
    mask[0, :, :, 3] = False
    out, log_sum = native.attend(query, key, value, mask, False)
    assert (out[1, :, 2] == 0).all()
    assert out[0].ne(0).all()
    grads = native.attend_backward(query, key, value, mask, False, out, log_sum, out)
    assert all(grad.isfinite().all() for grad in grads)
    assert (grads[0][1, :, 2] == 0).all()
    assert (grads[1][0, :, 3] == 0).all()
    assert (grads[2][0, :, 3] == 0).all()


@needs_kernels
def test_masks_and_layouts_that_it_does_not_know_are_left_alone() -> None:
    query, key, value = parts(4, 6)
    assert not native.can_attend(query, key, value, torch.ones(2, 3, 4, 6, dtype=torch.bool))
    assert not native.can_attend(query, key, value, torch.zeros(2, 1, 4, 6))
    assert not native.can_attend(query, key, value, torch.ones(4, 6, dtype=torch.bool))
    assert not native.can_attend(query, key[:1], value[:1], None)
    assert not native.can_attend(query.contiguous(), key, value, None)
    assert not native.can_attend(query[..., :6], key[..., :6], value[..., :6], None)


@needs_kernels
def test_threads_do_not_change_a_bit() -> None:
    query, key, value = parts(150, 150, dtype=torch.float32)
    x, gain = randn(700, 33, dtype=torch.float32), torch.ones(33)

    def everything() -> list[Tensor]:
        out, log_sum = native.attend(query, key, value, None, True)
        grads = native.attend_backward(query, key, value, None, True, out, log_sum, out)
        grad_gain = torch.zeros(33)
        of_x = native.rms_norm_backward(x, gain, 1e-6, x, grad_gain, None)
        return [out, *grads, of_x, grad_gain, native.gelu(x), native.rms_norm(x, gain, 1e-6)]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = everything()
        torch.set_num_threads(3)
        assert all(map(torch.equal, alone, everything()))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and nothing loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._loaded.cache_clear()
    yield tmp_path / "retro_lab"
    native._loaded.cache_clear()


def test_without_a_compiler_there_are_no_kernels(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert native.library(torch.float32) is None
    assert native.describe() == "none: no compiler is called cc, gcc, clang"
    assert not fresh.exists()


def test_a_compiler_that_fails_is_none(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = fresh.parent / "broken"
    compiler.write_text("#!/bin/sh\necho 'no OpenMP in here' >&2; exit 1\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setattr(native, "COMPILERS", (str(compiler),))
    assert native.library(torch.float32) is None
    assert native.describe() == f"none: {compiler} fails with 'no OpenMP in here'"
    assert not list(fresh.glob("*.so"))


@needs_kernels
def test_the_next_compiler_is_tried(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "COMPILERS", ("false", *native.COMPILERS))
    assert native.library(torch.float32) is not None
    assert "false" not in native.describe()


@needs_kernels
def test_a_cache_folder_may_be_relative(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fresh.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert native.library(torch.float32) is not None


@pytest.mark.parametrize("home", ["file", "~nobody-of-that-name"])
def test_a_cache_that_cannot_be_written_is_no_error(
    home: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh.parent / "file").write_text("")
    monkeypatch.chdir(fresh.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert native.library(torch.float32) is None
    assert native.describe().startswith("none: ")


@needs_kernels
def test_kernels_are_built_once_for_each_precision(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.library(torch.float32) is not None
    assert native.describe().startswith("compiled by ")
    assert native.library(torch.float64) is not None
    assert native.library(torch.bfloat16) is None
    assert len(list(fresh.iterdir())) == 2
    native._loaded.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert native.library(torch.float32) is not None

"""Contract: each C kernel computes what PyTorch does in double precision, in any shape and at any
number of threads.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import both, close, cos_sin, needs_kernels, randn
from torch import Tensor

from retro_lab.nn.cpu import native
from retro_lab.nn.cpu.native import AttentionSpec
from retro_lab.nn.layers import Smear

WIDTH = 16  # of a head: as many as any vector has
EXTREMES = [0.0, -0.0, 1e-30, 12.0, -12.0, 80.0, -80.0, 1e4, -1e4, 1e30, -1e30]


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
@pytest.mark.parametrize("vocabulary", [1, 7, 16, 50])
def test_cross_entropy(vocabulary: int, dtype: torch.dtype) -> None:
    logits = 20 * randn(6, vocabulary)
    targets = torch.arange(6) % vocabulary
    targets[2] = -100
    own = logits.to(dtype)
    logits = own.double().requires_grad_()
    nats = F.cross_entropy(logits, targets, reduction="none")
    (grad,) = torch.autograd.grad(nats.sum(), logits)
    close(native.cross_entropy(own, targets), nats.detach())
    close(own, grad)


@needs_kernels
@both
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_no_number_stays_so(poison: float, dtype: torch.dtype) -> None:
    logits = randn(2, 20, dtype=dtype)
    logits[1, 17] = poison
    nats = native.cross_entropy(logits, torch.tensor([0, 0]))
    assert nats.isfinite().tolist() == [True, False]
    query, key, value = parts(length=3, keys=5, dtype=dtype)
    key[:, 4] = poison
    assert not attend((query, key, value), AttentionSpec())[0].isfinite().any()
    earlier = query, key[:, :3], value[:, :3]
    assert attend(earlier, AttentionSpec(causal=True))[0].isfinite().all()


@needs_kernels
@both
@pytest.mark.parametrize("width", [6, 16, 40])
def test_rotation(width: int, dtype: torch.dtype) -> None:
    """Rows may go through the places more than once, as those of several sequences do."""
    rows, (cosines, sines) = randn(9, 2 * width, dtype=dtype), cos_sin(4, width, torch.float64)
    heads, places = rows.double().unflatten(-1, (2, width)), torch.arange(9) % 4
    across = heads.roll(width // 2, -1) * sines[places].unsqueeze(1)
    expected = heads * cosines[places].unsqueeze(1) + across
    native.rotate(rows, 2, cos_sin(4, width, dtype))
    close(rows.unflatten(-1, (2, width)), expected)


@needs_kernels
@both
@given(
    rows=st.integers(0, 200), depth=st.integers(1, 300), cols=st.integers(1, 70), wide=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_products(rows: int, depth: int, cols: int, wide: bool, dtype: torch.dtype) -> None:
    """Of matrices either way round in memory, with rows that need not be in one piece."""
    x = randn(rows, depth + 5 * wide, dtype=dtype)[:, :depth]
    across = randn(depth, rows, dtype=dtype).t()
    matrix, beside = randn(depth, cols, seed=1), randn(rows, cols, seed=2)
    for held in (matrix.to(dtype), matrix.t().contiguous().t().to(dtype)):
        packed = native.pack(held)
        close(native.multiply(x, packed), x.double() @ held.double())
        close(native.multiply(across, packed), across.double() @ held.double())
        added = beside.to(dtype)
        out = torch.empty_like(added)
        assert native.multiply(x, packed, out=out, beside=added) is out
        close(out, added.double() + x.double() @ held.double())


@needs_kernels
def test_products_of_shapes_that_do_not_fit() -> None:
    packed = native.pack(randn(5, 4))
    with pytest.raises(ValueError, match="3 features for a matrix of 5 rows"):
        native.multiply(randn(2, 3), packed)
    with pytest.raises(ValueError, match=r"\[2, 3\] is no place for \[2, 4\]"):
        native.multiply(randn(2, 5), packed, out=randn(2, 3))
    with pytest.raises(ValueError, match=r"\[1, 4\] cannot be added to \[2, 4\]"):
        native.multiply(randn(2, 5), packed, beside=randn(1, 4))


def parts(
    length: int, keys: int, batch: int = 2, heads: int = 3, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as projections leave them: heads of one row side by side."""
    query = randn(batch, length, heads * WIDTH, seed=1, dtype=dtype)
    held = randn(batch, keys, 2 * heads * WIDTH, seed=2, dtype=dtype)
    key, value = held.chunk(2, dim=-1)
    one, two, three = (x.unflatten(-1, (heads, WIDTH)) for x in (query, key, value))
    return one, two, three


def attend(own: tuple[Tensor, Tensor, Tensor], how: AttentionSpec) -> tuple[Tensor, Tensor]:
    """What `native.attend` reads, and its logarithms."""
    query = own[0]
    out = query.new_empty(query.shape)
    log_sum = query.new_empty(len(query), query.shape[2], query.shape[1])
    native.attend(own, how, out, log_sum)
    return out, log_sum


def slopes(
    own: tuple[Tensor, Tensor, Tensor], how: AttentionSpec, grad: Tensor
) -> tuple[list[Tensor], Tensor | None]:
    """Gradients of the parts, laid out as these, and of the share."""
    out, log_sum = attend(own, how)
    query, held = (
        own[0].new_empty(own[0].shape),
        own[1].new_empty(*own[1].shape[:2], 2, *own[1].shape[2:]),
    )
    grads = query, held[:, :, 0], held[:, :, 1]
    of_share = native.attend_backward(own, how, out, log_sum, grad, grads)
    return list(grads), of_share


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
    rotated=st.booleans(),
    smeared=st.sampled_from(["", "all", "some"]),
)
@settings(max_examples=60, deadline=None)
def test_attention_and_its_gradients(
    length: int,
    keys: int,
    batch: int,
    kind: str,
    causal: bool,
    rotated: bool,
    smeared: str,
    dtype: torch.dtype,
) -> None:
    keys = length if causal else keys
    own = parts(length, keys, batch, dtype=dtype)
    grad = randn(batch, length, 3, WIDTH, seed=7).to(dtype)
    share = torch.tensor([0.2, 0.5, 0.9], dtype=dtype) if smeared else None
    how = AttentionSpec(
        (cos_sin(length, WIDTH, dtype), cos_sin(keys, WIDTH, dtype)) if rotated else (None, None),
        mask_of(kind, batch, length, keys),
        causal,
        share,
        randn(batch, keys, seed=9) > 0 if smeared == "some" else None,
    )
    exact = [part.double().requires_grad_() for part in own]
    exact_share = None if share is None else share.double().requires_grad_()
    expected = plainly(exact, how, exact_share)
    assert native.can_attend(WIDTH, how.mask, dtype)
    close(attend(own, how)[0], expected.detach())
    wanted = exact if exact_share is None else [*exact, exact_share]
    of_parts, of_share = slopes(own, how, grad)
    found = of_parts if of_share is None else [*of_parts, of_share]
    for one, two in zip(
        found, torch.autograd.grad((expected * grad.double()).sum(), wanted), strict=True
    ):
        close(one, two)


def plainly(exact: list[Tensor], how: AttentionSpec, share: Tensor | None) -> Tensor:
    """Attention of queries, keys and values [B, L, H, P] by PyTorch, in double precision."""
    query, key, value = (part.transpose(1, 2) for part in exact)
    if share is not None:
        smear = Smear(len(share))
        smear.share = lambda: share  # pyright: ignore
        key = smear(key, how.follows)
    query, key = (
        x if waves is None else x * waves[0].double() + x.roll(WIDTH // 2, -1) * waves[1].double()
        for x, waves in zip((query, key), how.cos_sin, strict=True)
    )
    visible = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool)
    visible = visible.tril() if how.causal else visible
    visible = visible if how.mask is None else visible & how.mask
    return F.scaled_dot_product_attention(query, key, value, visible).transpose(1, 2)


@needs_kernels
@both
def test_who_may_look_nowhere_reads_nothing_and_what_is_hidden_weighs_nothing(
    dtype: torch.dtype,
) -> None:
    own = parts(4, 6, dtype=dtype)
    mask = torch.ones(2, 1, 4, 6, dtype=torch.bool)
    mask[1, :, 2] = False
    mask[0, :, :, 3] = False
    out, _ = attend(own, AttentionSpec(mask=mask))
    assert (out[1, 2] == 0).all()
    assert out[0].ne(0).all()
    grads, _ = slopes(own, AttentionSpec(mask=mask), out)
    assert all(grad.isfinite().all() for grad in grads)
    assert (grads[0][1, 2] == 0).all()
    assert (grads[1][0, 3] == 0).all()
    assert (grads[2][0, 3] == 0).all()


@needs_kernels
def test_masks_and_heads_that_it_does_not_know_are_left_alone() -> None:
    assert native.can_attend(16, None, torch.float32)
    assert not native.can_attend(16, torch.ones(2, 3, 4, 6, dtype=torch.bool), torch.float32)
    assert not native.can_attend(16, torch.zeros(2, 1, 4, 6), torch.float32)
    assert not native.can_attend(16, torch.ones(4, 6, dtype=torch.bool), torch.float32)
    assert not native.can_attend(6, None, torch.float32)
    assert not native.can_attend(16, None, torch.bfloat16)


@needs_kernels
def test_rotations_and_shares_that_do_not_fit_are_errors() -> None:
    own = parts(4, 6)
    with pytest.raises(ValueError, match=r"cos_sin of \[6, 16\] for heads of \[4, 16\]"):
        attend(own, AttentionSpec((cos_sin(6, WIDTH, torch.float64), None)))
    with pytest.raises(TypeError, match=r"must be torch\.float64"):
        attend(own, AttentionSpec((cos_sin(4, WIDTH, torch.float32), None)))
    with pytest.raises(TypeError, match=r"must be torch\.float64"):
        attend(own, AttentionSpec(share=torch.ones(3)))


@needs_kernels
def test_threads_do_not_change_a_bit() -> None:
    """Those of a generated token are in `test_fused_token.py`."""
    own = parts(150, 150, dtype=torch.float32)
    x, gain = randn(700, 33, dtype=torch.float32), torch.ones(33)

    def everything() -> list[Tensor]:
        how = AttentionSpec(causal=True, share=torch.full((3,), 0.3))
        out, _ = attend(own, how)
        grads, of_share = slopes(own, how, out)
        assert of_share is not None
        grad_gain = torch.zeros(33)
        of_x = native.rms_norm_backward(x, gain, 1e-6, x, grad_gain, None)
        product = native.multiply(x, native.pack(x.t()))
        normed = native.rms_norm(x, gain, 1e-6)
        return [out, *grads, of_share, of_x, grad_gain, native.gelu(x), normed, product]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = everything()
        torch.set_num_threads(3)
        assert all(map(torch.equal, alone, everything()))
    finally:
        torch.set_num_threads(threads)

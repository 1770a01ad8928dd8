"""Contract: the model is RETRO, causal to the bit, and retrieval can be taken away without trace.

Each property is drawn over shapes: lengths that are no multiple of the chunk, sequences shorter
than a chunk, one or several neighbours, missing neighbours, cross-attention in any encoder layer.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from algorithm_one import Oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import PAD, POSITIONS, VALUES, VOCABULARY, Case, cases, make_case

from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.config import PositionKind, ValueKind
from retro_lab.nn.cpu import accelerate

few = settings(max_examples=25, deadline=None)


def changed_positions(
    before: torch.Tensor, after: torch.Tensor, rounding: float = 0.0
) -> list[int]:
    """Positions whose logits differ by more than `rounding`, by default nothing at all."""
    return ((before - after).abs() > rounding).any(-1).any(0).nonzero().flatten().tolist()


@given(cases, st.data())
@few
def test_a_token_changes_nothing_before_it(case: Case, data: st.DataObject) -> None:
    length = case.tokens.shape[1]
    position = data.draw(st.integers(0, length - 1))
    before = case.model(case.tokens, case.neighbours)
    case.tokens[:, position] = (case.tokens[:, position] + 1) % PAD
    after = case.model(case.tokens, case.neighbours)
    changed = changed_positions(before, after)
    assert changed, "the check would pass on a model that ignores its input"
    assert min(changed) == position


@given(cases, st.data())
@few
def test_a_neighbour_first_changes_the_last_token_of_its_chunk(
    case: Case, data: st.DataObject
) -> None:
    size, length = case.chunk_size, case.tokens.shape[1]
    chunk = data.draw(st.integers(0, case.neighbours.shape[1] - 1))
    neighbour = data.draw(st.integers(0, case.neighbours.shape[2] - 1))
    before = case.model(case.tokens, case.neighbours)
    case.neighbours[:, chunk, neighbour] = (case.neighbours[:, chunk, neighbour] + 1) % PAD
    # Copies are encoded once where only their text counts: how many rows a product has, and with it
    # the last bits of the others, then depends on how many neighbours are alike.
    rounding = 0.0 if case.model.config.encoder_cca_layers else 1e-12
    changed = changed_positions(before, case.model(case.tokens, case.neighbours), rounding)
    first = (chunk + 1) * size - 1  # 0-based; um in the paper's counting
    if first < length:
        assert min(changed) == first
    else:
        assert not changed, "an incomplete chunk has retrieved nothing yet"


@given(cases)
@few
def test_the_first_chunk_does_not_know_whether_retrieval_is_on(case: Case) -> None:
    cut = case.chunk_size - 1
    on = case.model(case.tokens, case.neighbours)[:, :cut].log_softmax(-1)
    off = case.model(case.tokens)[:, :cut].log_softmax(-1)
    torch.testing.assert_close(on, off, rtol=0, atol=1e-12)


@given(cases)
@few
def test_rows_of_a_batch_do_not_see_each_other(case: Case) -> None:
    together = case.model(case.tokens, case.neighbours)
    for row in range(len(case.tokens)):
        alone = case.model(case.tokens[row : row + 1], case.neighbours[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-9)


@given(cases)
@few
def test_the_order_of_neighbours_does_not_matter(case: Case) -> None:
    flipped = case.model(case.tokens, case.neighbours.flip(2))
    torch.testing.assert_close(flipped, case.model(case.tokens, case.neighbours), rtol=0, atol=1e-9)


@given(cases)
@few
def test_missing_neighbours_are_no_retrieval_to_the_bit(case: Case) -> None:
    missing = torch.full_like(case.neighbours, PAD)
    targets = case.tokens.roll(-1, 1)
    off = case.model.token_nats(case.tokens, targets)
    assert torch.equal(case.model.token_nats(case.tokens, targets, missing), off)
    none = case.neighbours[:, :, :0]
    assert torch.equal(case.model.token_nats(case.tokens, targets, none), off)
    assert torch.isfinite(off).all()


@given(cases, st.integers(1, 22))
@few
def test_a_prefix_has_the_logits_of_the_whole(case: Case, cut: int) -> None:
    cut = min(cut, case.tokens.shape[1])
    whole = case.model(case.tokens, case.neighbours)[:, :cut].log_softmax(-1)
    prefix = case.model(case.tokens[:, :cut], case.neighbours).log_softmax(-1)
    torch.testing.assert_close(prefix, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "choice",
    [
        *({"positions": positions} for positions in POSITIONS),
        *({"positions": positions, "value": "continuation"} for positions in POSITIONS),
        {"smeared_keys": False},
        {"value": "neighbour"},
        {"continuation_chunks": 0},
        {"continuation_chunks": 2, "value": "continuation"},
        {"cca_positions": False},
        {"gated_cca": True, "ff": "swiglu"},
        {"encoder_cca_layers": ()},
        {"share_embeddings": True},
    ],
    ids=lambda choice: "-".join(map(str, choice.values())),
)
@pytest.mark.parametrize(("length", "missing"), [(8, True), (11, False)])
def test_it_is_algorithm_one(choice: dict[str, Any], length: int, missing: bool) -> None:
    case = make_case(chunk_size=4, length=length, missing=missing, batch=1, seed=length, **choice)
    oracle = Oracle(case.model)
    with torch.no_grad():
        expected = oracle.logits(case.tokens[0], case.neighbours[0])
        actual = case.model(case.tokens, case.neighbours)[0]
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
        expected_off = oracle.logits(case.tokens[0], None)
        torch.testing.assert_close(case.model(case.tokens)[0], expected_off, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("positions", ["rotary", "relative", "bucket_log"])
def test_gradients_agree_with_algorithm_one(positions: PositionKind) -> None:
    case = make_case(chunk_size=3, length=7, batch=1, positions=positions, gated_cca=True)
    parameters = list(case.model.parameters())
    weights = torch.randn(7, VOCABULARY, dtype=torch.float64)
    fast = torch.autograd.grad(
        (case.model(case.tokens, case.neighbours)[0] * weights).sum(), parameters, allow_unused=True
    )
    slow = torch.autograd.grad(
        (Oracle(case.model).logits(case.tokens[0], case.neighbours[0]) * weights).sum(),
        parameters,
        allow_unused=True,
    )
    names = [name for name, _ in case.model.named_parameters()]
    for name, one, two in zip(names, fast, slow, strict=True):
        assert one is not None, name
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8, msg=name)


@given(st.integers(0, 100), st.sampled_from(POSITIONS), st.sampled_from(VALUES))
@few
def test_documents_of_a_row_do_not_see_each_other(
    seed: int, positions: PositionKind, value: ValueKind
) -> None:
    case = make_case(
        seed=seed,
        chunk_size=4,
        length=16,
        batch=1,
        pointer=bool(seed % 2),
        positions=positions,
        value=value,
    )
    documents = torch.tensor([[0] * 8 + [1] * 8])
    packed = case.model(case.tokens, case.neighbours, documents).log_softmax(-1)
    first = case.model(case.tokens[:, :8], case.neighbours[:, :2]).log_softmax(-1)
    second = case.model(case.tokens[:, 8:], case.neighbours[:, 2:]).log_softmax(-1)
    torch.testing.assert_close(packed[:, :8], first, rtol=0, atol=1e-9)
    torch.testing.assert_close(packed[:, 8:], second, rtol=0, atol=1e-9)


@given(cases)
@few
def test_a_row_of_one_document_needs_no_document_ids(case: Case) -> None:
    documents = torch.zeros_like(case.tokens)
    named = case.model(case.tokens, case.neighbours, documents).log_softmax(-1)
    plain = case.model(case.tokens, case.neighbours).log_softmax(-1)
    torch.testing.assert_close(named, plain, rtol=0, atol=1e-9)


@given(cases)
@few
def test_token_nats_are_the_nats_of_the_logits(case: Case) -> None:
    targets = case.tokens.roll(-1, 1)
    targets[:, -1] = -100
    nats = case.model.token_nats(case.tokens, targets, case.neighbours)
    log_probs = case.model(case.tokens, case.neighbours).log_softmax(-1)
    expected = -log_probs.gather(-1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    expected[:, -1] = 0
    torch.testing.assert_close(nats, expected, rtol=1e-9, atol=1e-9)


def test_a_fresh_model_starts_as_its_baseline() -> None:
    case = make_case(pointer=False)
    case.model.reset_parameters()
    assert torch.equal(case.model(case.tokens, case.neighbours), case.model(case.tokens))


def test_a_frozen_retrofit_without_retrieval_is_its_backbone() -> None:
    case = make_case(pointer=True, dtype=torch.float32)
    config = case.model.config
    backbone = accelerate(Retro(config.baseline)).eval()
    case.model.load_backbone(backbone.state_dict())
    case.model.freeze_backbone()
    optimiser = torch.optim.SGD((p for p in case.model.parameters() if p.requires_grad), lr=1.0)
    loss = case.model.token_nats(case.tokens, case.tokens.roll(-1, 1), case.neighbours).mean()
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        off = backbone(case.tokens)
        assert torch.equal(case.model(case.tokens), off)
        on = case.model(case.tokens, case.neighbours).log_softmax(-1)
    assert not torch.allclose(on, off.log_softmax(-1))


@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_of_a_neighbour_gets_no_gradient_and_bf16_stays_finite(
    positions: PositionKind,
) -> None:
    case = make_case(missing=True, pointer=True, positions=positions, dtype=torch.float32)
    case.model.encoder_embedding.weight.requires_grad_(True)
    targets = case.tokens.roll(-1, 1)
    case.model.token_nats(case.tokens, targets, case.neighbours).sum().backward()
    assert case.model.encoder_embedding.weight.grad[PAD].abs().max() == 0
    single = case.model.token_nats(case.tokens, targets, case.neighbours)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = case.model.token_nats(case.tokens, targets, case.neighbours)
    torch.testing.assert_close(mixed, single, rtol=0.3, atol=1.0)
    half = case.model.to(torch.bfloat16)
    assert torch.isfinite(half.token_nats(case.tokens, targets, case.neighbours)).all()


def test_config_is_built_as_asked() -> None:
    model = make_case(cca_layers=(1, 3)).model
    assert [block.cca is not None for block in model.blocks] == [True, False, True]
    assert [block.conditioned for block in model.encoder.blocks] == [True, True]
    attention = model.blocks[0].attention
    assert (attention.num_heads, attention.qkv.out_features) == (2, 3 * 2 * 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"head_dim": 3}, "head_dim"),
        ({"cca_layers": (4,)}, "cca_layers"),
        ({"encoder_cca_layers": (3,)}, "encoder_cca_layers"),
        ({"encoder_head_dim": 3}, "encoder_head_dim"),
        ({"share_embeddings": True}, "share_embeddings"),
        ({"positions": "alibi"}, "positions"),
        ({"value": "continuation", "neighbour_length": 4}, "continuation"),
    ],
)
def test_impossible_sizes_are_refused(wrong: dict, message: str) -> None:
    sizes = make_case().model.config.__dict__
    with pytest.raises(ValueError, match=message):
        RetroConfig(**(sizes | wrong))

"""Contract: an ablation takes away what it says and nothing else, and never disturbs the start.

Values, gates, noise, query conditioning, checkpointing: each is checked by what the model can no
longer see, or by what it must still compute.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from shapes import PAD, POSITIONS, Case, make_case
from torch import nn

from retro_lab.nn.config import PositionKind, ValueKind
from retro_lab.nn.cpu import accelerate, plain
from retro_lab.nn.layers import GatedFeedForward


@pytest.mark.parametrize(("value", "read"), [("neighbour", 0), ("continuation", 1)])
@pytest.mark.parametrize("pointer", [False, True])
def test_a_part_that_is_not_read_has_no_effect(value: str, read: int, pointer: bool) -> None:
    case = make_case(chunk_size=4, value=value, pointer=pointer)
    parts = [slice(0, 4), slice(4, 8)]
    before = case.model(case.tokens, case.neighbours)
    for part in (1 - read, read):
        neighbours = case.neighbours.clone()
        neighbours[..., parts[part]] = (neighbours[..., parts[part]] + 1) % PAD
        same = torch.equal(case.model(case.tokens, neighbours), before)
        assert same == (part != read)


def test_without_query_conditioning_neighbours_read_alike_everywhere() -> None:
    for layers, alike in (((), True), ((1,), False)):
        case = make_case(encoder_cca_layers=layers, chunk_size=4, length=8, batch=1)
        encoded = []
        case.model.encoder.register_forward_hook(lambda *args, seen=encoded: seen.append(args[2]))
        case.model(case.tokens, case.neighbours)
        case.model(case.tokens.flip(1), case.neighbours)
        assert torch.equal(*encoded) == alike


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("gated", [False, True])
def test_a_fresh_model_starts_as_its_baseline_and_can_leave(
    positions: PositionKind, gated: bool
) -> None:
    case = make_case(gated_cca=gated, positions=positions)
    case.model.reset_parameters()
    on = case.model(case.tokens, case.neighbours)
    assert torch.equal(on, case.model(case.tokens))
    on.square().sum().backward()
    for block in case.model.blocks:
        if block.cca is not None:
            door = block.cca.gate if gated else block.cca.attention.out.weight
            assert door.count_nonzero() == 0
            assert door.grad.abs().sum() > 0


def rows_encoded(case: Case) -> list[int]:
    """Neighbours that go through the encoder in each pass from now on."""
    rows: list[int] = []
    case.model.encoder.norm.register_forward_hook(lambda *args: rows.append(len(args[2])))
    return rows


def copied(case: Case) -> torch.Tensor:
    """Neighbours [B, U, K, R], all like those of one chunk but for the first row's first chunk."""
    neighbours = case.neighbours[:1, 1:2].expand_as(case.neighbours).clone()
    neighbours[0, 0] = case.neighbours[0, 0]
    return neighbours


@pytest.mark.parametrize("value", ["both", "continuation"])
def test_without_query_conditioning_a_repeated_neighbour_is_encoded_once(value: ValueKind) -> None:
    case = make_case(encoder_cca_layers=(), chunk_size=4, length=16, value=value, pointer=True)
    neighbours, rows = copied(case), rows_encoded(case)
    parameters = list(case.model.parameters())
    found = []
    for change in (accelerate, plain):
        change(case.model)
        nats = case.model.token_nats(case.tokens, case.tokens.roll(-1, 1), neighbours)
        found.append([nats, *torch.autograd.grad(nats.sum(), parameters)])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    assert rows == [2 + 2, 2 * 4 * 2]


@pytest.mark.parametrize(
    ("changes", "training"),
    [
        ({"encoder_cca_layers": (1,)}, False),
        ({"encoder_cca_layers": (), "dropout": 0.1}, True),
        ({"encoder_cca_layers": (), "neighbour_noise": 0.1}, True),
    ],
)
def test_copies_that_may_differ_are_encoded_each(changes: dict, training: bool) -> None:
    case = make_case(chunk_size=4, length=16, **changes)
    rows = rows_encoded(case)
    case.model.train(training)(case.tokens, copied(case))
    assert rows == [2 * 4 * 2]


def test_noise_reaches_neighbours_in_training_only() -> None:
    case = make_case(neighbour_noise=0.2)
    model = case.model.train()

    def logits(seed: int, *neighbours: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(seed)
        return model(case.tokens, *neighbours)

    assert torch.equal(logits(0, case.neighbours), logits(0, case.neighbours))
    assert not torch.equal(logits(0, case.neighbours), logits(1, case.neighbours))
    assert torch.equal(logits(0), logits(1))
    model.eval()
    assert torch.equal(logits(0, case.neighbours), logits(1, case.neighbours))


def test_noise_is_as_strong_as_asked() -> None:
    case = make_case(neighbour_noise=0.2, length=40, num_neighbours=3)
    seen = []
    first = case.model.encoder.blocks[0]
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    case.model(case.tokens, case.neighbours)
    case.model.train()(case.tokens, case.neighbours)
    clean, noisy = seen
    expected = 0.2 * clean.abs().mean().item()
    assert (noisy - clean).std().item() == pytest.approx(expected, rel=0.05)


def test_dropout_is_on_embeddings_and_every_branch_in_training() -> None:
    model = (case := make_case(dropout=0.3, encoder_cca_layers=(2,))).model
    calls: Counter[str] = Counter()
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    model.train()(case.tokens, case.neighbours)
    branches = {f"blocks.{i}": 2 if i == 0 else 3 for i in range(3)}  # CCA in layers 2 and 3
    branches |= {"encoder.blocks.0": 2, "encoder.blocks.1": 3}
    expected = {"dropout": 1, "encoder.dropout": 1}
    assert calls == expected | {f"{name}.dropout": count for name, count in branches.items()}
    model.eval()
    assert torch.equal(*(model(case.tokens, case.neighbours) for _ in range(2)))


@pytest.mark.parametrize("positions", POSITIONS)
def test_checkpointing_changes_no_gradient(positions: PositionKind) -> None:
    case = make_case(dropout=0.3, positions=positions, encoder_cca_layers=(1,), pointer=True)
    case.model.train()
    found = []
    for enabled in (False, True):
        case.model.enable_checkpointing(enabled)
        case.model.zero_grad()
        torch.manual_seed(0)
        nats = case.model.token_nats(case.tokens, case.tokens.roll(-1, 1), case.neighbours)
        nats.sum().backward()
        found.append([nats, *(p.grad for p in case.model.parameters() if p.grad is not None)])
    plain, checkpointed = found
    assert len(plain) == len(checkpointed) > 20
    for one, two in zip(plain, checkpointed, strict=True):
        assert torch.equal(one, two)


def test_checkpointing_keeps_fewer_activations() -> None:
    case = make_case(length=20)
    kept = []
    for enabled in (False, True):
        case.model.enable_checkpointing(enabled)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            case.model(case.tokens, case.neighbours)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_blocks_are_built_as_asked() -> None:
    model = make_case(ff="swiglu", gated_cca=True, value="neighbour").model
    assert all(isinstance(block.ff, GatedFeedForward) for block in model.blocks)
    assert all(isinstance(block.ff, GatedFeedForward) for block in model.encoder.blocks)
    assert model.encoder.blocks[0].attention.qkv.out_features == 3 * 3 * 8
    assert {"blocks.1.cca.gate", "blocks.2.cca.gate"} <= model.retrieval_parameters()

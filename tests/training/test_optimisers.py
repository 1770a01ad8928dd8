"""Contract of the optimisers: decay on matrices only, frozen weights left out, Muon on hidden
matrices with AdamW beside it behind one optimiser that a scheduler moves and a file restores."""

from __future__ import annotations

import pytest
import torch
from small_run import optimiser_config, small_model

from retro_lab.config.errors import UserError
from retro_lab.config.schema import AdamWConfig, MuonConfig, OptimConfig
from retro_lab.training.optimisers import CombinedOptimizer, build_optimiser


def names(model, group) -> set[str]:
    lookup = {id(p): name for name, p in model.named_parameters()}
    return {lookup[id(p)] for p in group["params"]}


def step(model, optimiser) -> None:
    tokens = torch.arange(16).view(1, 16)
    model.token_nats(tokens, tokens, torch.ones(1, 4, 2, 8, dtype=torch.long)).mean().backward()
    optimiser.step()
    optimiser.zero_grad()


def test_decay_reaches_matrices_only():
    model = small_model()
    decayed, plain = build_optimiser(model, AdamWConfig(lr=0.1)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert names(model, decayed) | names(model, plain) == set(dict(model.named_parameters()))
    assert {"embedding.weight", "encoder_embedding.weight", "norm.weight"} <= names(model, plain)
    assert all(p.ndim == 2 for p in decayed["params"])
    assert "blocks.0.attention.qkv.weight" in names(model, decayed)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_frozen_weights_are_left_out_and_do_not_move(name):
    model = small_model()
    model.freeze_backbone()
    before = {n: p.clone() for n, p in model.named_parameters()}
    optimiser = build_optimiser(model, optimiser_config(name))
    held = set().union(*(names(model, group) for group in optimiser.param_groups))
    assert held == model.retrieval_parameters()
    step(model, optimiser)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert moved <= held


def test_muon_takes_hidden_matrices_and_adamw_the_rest():
    model = small_model()
    optimiser = build_optimiser(model, MuonConfig(lr=1e-3, muon_lr=0.02))
    assert isinstance(optimiser, CombinedOptimizer)
    adamw, muon = optimiser.param_groups
    assert (adamw["lr"], muon["lr"]) == (1e-3, 0.02)
    assert "embedding.weight" in names(model, adamw)
    assert "encoder_embedding.weight" in names(model, adamw)
    assert {"blocks.1.ff.up.weight", "encoder.blocks.0.attention.qkv.weight"} <= names(model, muon)


def test_muon_learns_and_a_scheduler_moves_both_parts():
    model = small_model(dropout=0.0)
    optimiser = build_optimiser(model, MuonConfig(lr=1e-2))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5**step)
    tokens = torch.arange(16).view(1, 16)
    first = model.token_nats(tokens, tokens).mean().item()
    for _ in range(3):
        step(model, optimiser)
        scheduler.step()
    assert model.token_nats(tokens, tokens).mean().item() < first
    rates = [group["lr"] for part in optimiser.parts for group in part.param_groups]
    assert rates == pytest.approx([1e-2 / 8, 0.02 / 8])


def test_combined_state_goes_through_a_safe_file(tmp_path):
    model = small_model(dropout=0.0)
    optimiser = build_optimiser(model, MuonConfig())
    step(model, optimiser)
    torch.save((model.state_dict(), optimiser.state_dict()), tmp_path / "state.pt")
    step(model, optimiser)

    other = small_model(dropout=0.0)
    restored = build_optimiser(other, MuonConfig())
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(weights)
    restored.load_state_dict(state)
    for group in restored.param_groups:
        assert any(group is own for part in restored.parts for own in part.param_groups)
    step(other, restored)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_the_rate_can_be_overridden_with_muons_in_proportion():
    groups = build_optimiser(small_model(), MuonConfig(lr=1e-3, muon_lr=0.02), lr=5e-4).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([5e-4, 0.01])


def test_an_unknown_optimiser_is_a_user_error():
    with pytest.raises(UserError, match="optim=sgd"):
        build_optimiser(small_model(), OptimConfig(name="sgd"))

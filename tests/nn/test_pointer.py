"""Contract of the pointer's variants: each changes what it says, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from shapes import Case, make_case
from torch import Tensor

from retro_lab.nn import Retro
from retro_lab.nn.chunks import RetrievedChunks
from retro_lab.nn.pointer import Copy, Pointer
from retro_lab.nn.scored import logits_at


def pointer_of(case: Case, **changes: Any) -> Pointer:
    torch.manual_seed(1)
    return Pointer(replace(case.model.config, **changes)).double()


def proposal(pointer: Pointer, case: Case, tokens: Tensor) -> Copy:
    """For states that do not depend on the tokens, so that only matching does."""
    config = case.model.config
    torch.manual_seed(2)
    hidden = torch.randn(*tokens.shape, config.d_model, dtype=torch.float64)
    chunks = RetrievedChunks.of(case.neighbours, None, tokens.shape[1], config)
    encoded = torch.randn(*chunks.ids.shape, config.encoder_d_model, dtype=torch.float64)
    with torch.no_grad():
        return pointer(hidden, encoded, tokens, chunks)


def test_without_the_match_bias_it_does_not_see_what_matches() -> None:
    case = make_case(pointer=True)
    other = case.tokens.clone()
    other[:, 5:] = case.neighbours[0, 0, 0, 0]
    blind, seeing = (pointer_of(case, match_bias=bias) for bias in (False, True))
    for name in ("log_attention", "gate_logit"):
        found = [getattr(proposal(blind, case, tokens), name) for tokens in (case.tokens, other)]
        assert torch.equal(*found)
        found = [getattr(proposal(seeing, case, tokens), name) for tokens in (case.tokens, other)]
        assert not torch.equal(*found)
    with torch.no_grad():
        seeing.match.zero_()
    assert torch.equal(
        proposal(seeing, case, case.tokens).log_attention,
        proposal(blind, case, case.tokens).log_attention,
    )


def test_what_follows_the_longest_match_is_proposed() -> None:
    case = make_case(pointer=True)
    size, pointer = case.model.config.chunk_size, pointer_of(case)
    neighbour = case.neighbours[0, 0, 0]
    neighbour[:] = torch.arange(2, 2 + len(neighbour))  # no token twice, none is padding
    case.neighbours[0, 0, 1:] = 2
    case.tokens[0, size - 2 : size] = neighbour[:2]  # the chunk ends in the neighbour's beginning
    with torch.no_grad():
        pointer.match.mul_(100)
    copy = proposal(pointer, case, case.tokens)
    best = copy.log_attention[0, 0, 0].argmax()  # at the first token that reads the neighbours
    assert copy.next_ids[0, 0, best] == neighbour[2]


def test_a_zero_start_differs_in_the_match_weights_alone() -> None:
    case = make_case(pointer=True)
    cautious, zero = (pointer_of(case, pointer_start=start) for start in ("cautious", "zero"))
    differing = {
        name
        for name, value in cautious.state_dict().items()
        if not torch.equal(value, zero.state_dict()[name])
    }
    assert differing == {"match"}
    assert (zero.match == 0).all()
    assert (cautious.match > 0).all()


def test_heads_start_as_the_mean_of_their_distributions() -> None:
    """Worked out head by head: each has its part of the query's and key's width."""
    case = make_case(pointer=True)
    pointer = pointer_of(case, pointer_heads=2)
    log_attention = proposal(pointer, case, case.tokens).log_attention
    torch.testing.assert_close(
        log_attention.exp().sum(-1), torch.ones(log_attention.shape[:-1]).double()
    )
    alone = []
    for half in (slice(0, 8), slice(8, 16)):
        single = pointer_of(case)
        single.scale = pointer.scale
        with torch.no_grad():
            for part, whole in ((single.query, pointer.query), (single.key, pointer.key)):
                part.weight.zero_()
                part.weight[half] = whole.weight[half]
        alone.append(proposal(single, case, case.tokens).log_attention.exp())
    torch.testing.assert_close(log_attention.exp(), (alone[0] + alone[1]) / 2)
    with torch.no_grad():
        pointer.mix.weight[1] = torch.randn(case.model.config.d_model) * 0.5
    mixed = proposal(pointer, case, case.tokens).log_attention.exp()
    assert not torch.allclose(mixed, log_attention.exp())
    low, high = torch.minimum(*alone), torch.maximum(*alone)
    assert ((mixed >= low - 1e-12) & (mixed <= high + 1e-12)).all()


@pytest.mark.parametrize("heads", [1, 4])
def test_every_variant_learns(heads: int) -> None:
    case = make_case(pointer=True)
    torch.manual_seed(0)
    model = Retro(replace(case.model.config, pointer_heads=heads))
    targets = case.tokens.roll(-1, 1)
    model.token_nats(case.tokens, targets, case.neighbours).sum().backward()
    still = {
        name
        for name, value in model.pointer.named_parameters()
        if value.grad is None or not value.grad.any()
    }
    assert not still


def test_a_gate_that_is_sure_stays_finite() -> None:
    case = make_case(pointer=True, dtype=torch.float32)
    targets = case.tokens.roll(-1, 1)
    with torch.no_grad():
        case.model.pointer.gate.bias.fill_(200.0)
    nats = case.model.token_nats(case.tokens, targets, case.neighbours)
    log_probs = case.model(case.tokens, case.neighbours)
    nats.sum().backward()
    assert torch.isfinite(nats).all()
    torch.testing.assert_close(log_probs.exp().sum(-1)[:, 3:], torch.ones(2, 15))
    assert all(torch.isfinite(p.grad).all() for p in case.model.parameters())


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="pointer_heads"):
        replace(make_case().model.config, pointer_heads=3)


@pytest.mark.parametrize("length", ["short", "whole"])
def test_marked_positions_have_what_the_whole_forward_pass_gives_them(length: str) -> None:
    """Neighbours hold a token several times, which the mixture must add up."""
    case = make_case(pointer=True)
    case.neighbours[..., ::3] = 4
    tokens = case.tokens[:, :-3] if length == "short" else case.tokens
    with torch.no_grad():
        for weight in case.model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        whole = case.model(tokens, case.neighbours)
        at = torch.rand(tokens.shape) < 0.6
        at[:, : case.model.config.chunk_size] = True  # before the first chunk ends, no pointer
        some = logits_at(case.model, at, tokens, case.neighbours)
    assert some.shape == (int(at.sum()), whole.shape[-1])
    torch.testing.assert_close(some, whole[at])
    torch.testing.assert_close(some.logsumexp(-1), torch.zeros(len(some), dtype=some.dtype))

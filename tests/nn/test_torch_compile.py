"""Contract: under torch.compile the model is the same model, gradients and causality included."""

from __future__ import annotations

import pytest
import torch
from shapes import PAD, make_case

# The first call compiles for a minute, on a busy machine for many.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_compiled_agrees_with_eager_and_stays_causal() -> None:
    case = make_case(length=22, chunk_size=5, missing=True, dtype=torch.float32)
    parameters = list(case.model.parameters())
    targets = case.tokens.roll(-1, 1)
    compiled = torch.compile(case.model.token_nats)
    nats = compiled(case.tokens, targets, case.neighbours)
    eager = case.model.token_nats(case.tokens, targets, case.neighbours)
    torch.testing.assert_close(nats, eager, rtol=1e-5, atol=1e-5)
    own = torch.autograd.grad(nats.sum(), parameters)
    for one, two in zip(own, torch.autograd.grad(eager.sum(), parameters), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5 * two.abs().max().item())
    for position in (3, 9, 21):
        tokens = case.tokens.clone()
        tokens[:, position] = (tokens[:, position] + 1) % PAD
        changed = compiled(tokens, targets, case.neighbours) != nats
        assert changed.any(0).nonzero().flatten().tolist()[0] == position

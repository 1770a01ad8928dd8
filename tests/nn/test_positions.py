"""Contract: every attention layer knows distances as the paper declares them, the same for every
neighbour: the query's place minus the key's, i - i' + m - 1 in CCA, i' - i in the encoder's
cross-attention.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import PAD, POSITIONS, Case, make_case
from torch import Tensor, nn

from retro_lab.nn.chunks import RetrievedChunks
from retro_lab.nn.config import PositionKind, ValueKind
from retro_lab.nn.decode.cache import RotationCache
from retro_lab.nn.positions import (
    FURTHEST,
    Axis,
    LinearBuckets,
    LogarithmicBuckets,
    RotaryPositions,
    build_positions,
    descending_distances,
    shifted,
)

HERE = torch.zeros(0)
axes = st.builds(Axis, st.integers(1, 5), st.integers(0, 4), st.integers(1, 3))


def distances_between(queries: Axis, keys: Axis) -> Tensor:
    return queries.places(HERE).unsqueeze(1) - keys.places(HERE)


@given(axes, axes)
@settings(deadline=None, max_examples=50)
def test_shifting_puts_every_distance_at_its_pair(queries: Axis, keys: Axis) -> None:
    rows = descending_distances(queries, keys, HERE).expand(2, queries.length, -1)
    expected = distances_between(queries._replace(repeats=1), keys._replace(repeats=1))
    assert torch.equal(shifted(rows, keys.length), expected.expand(2, -1, -1))


@pytest.mark.parametrize("kind", POSITIONS)
@given(queries=axes, keys=axes, by=st.integers(1, 50))
@settings(deadline=None, max_examples=10)
def test_logits_depend_on_distance_alone(
    kind: PositionKind, queries: Axis, keys: Axis, by: int
) -> None:
    positions = build_positions(kind, 6, 2, 4, 10_000.0).double()
    for parameter in positions.parameters():
        nn.init.normal_(parameter)
    query = torch.randn(1, 2, 1, 4, dtype=torch.float64)
    key = torch.randn(1, 2, 1, 4, dtype=torch.float64)
    query = query.expand(-1, -1, queries.length * queries.repeats, -1)
    key = key.expand(-1, -1, keys.length * keys.repeats, -1)

    def logits(queries: Axis, keys: Axis) -> Tensor:
        tables = positions.tables(queries, keys, query)
        turned, turned_key, bias = positions(query, key, tables)
        product = turned @ turned_key.transpose(-1, -2)
        return (product if bias is None else product + bias)[0, 0].detach()

    found = logits(queries, keys)
    moved = logits(queries._replace(start=queries.start + by), keys._replace(start=keys.start + by))
    torch.testing.assert_close(found, moved, rtol=0, atol=1e-9)
    by_distance: dict[int, float] = {}
    pairs = zip(distances_between(queries, keys).flatten().tolist(), found.flatten(), strict=True)
    for distance, logit in pairs:
        assert by_distance.setdefault(distance, logit.item()) == pytest.approx(logit.item())
    apart = len({round(logit, 9) for logit in by_distance.values()})
    assert apart == (1 if kind == "none" else len(by_distance))


def seen_distances(case: Case, positions: nn.Module) -> Tensor:
    """Distances that a layer with linear buckets tells one head during a forward pass."""
    assert isinstance(positions, LinearBuckets)
    with torch.no_grad():
        table = torch.arange(positions.num_buckets, dtype=torch.float64) - FURTHEST
        positions.bias.weight.copy_(table.unsqueeze(1).expand_as(positions.bias.weight))
    seen = []
    positions.register_forward_hook(lambda module, inputs, output: seen.append(output[2]))
    case.model(case.tokens, case.neighbours)
    return seen[0][0, 0].round().long()


@pytest.mark.parametrize(("value", "first"), [("both", 0), ("neighbour", 0), ("continuation", 4)])
def test_distances_are_the_declared_ones_for_every_neighbour(value: ValueKind, first: int) -> None:
    case = make_case(
        chunk_size=4, length=12, num_neighbours=3, positions="bucket_linear", value=value
    )
    decoder, encoder = case.model.blocks[1], case.model.encoder.blocks[0]
    m, r = 4, 8 if value == "both" else 4
    inside = torch.arange(first, first + r)  # i', 0-based
    cca = seen_distances(case, decoder.cca.attention.positions)
    assert torch.equal(cca, torch.stack([i - inside + m - 1 for i in range(m)]).repeat(1, 3))
    condition = seen_distances(case, encoder.condition.positions)
    assert torch.equal(condition, (inside.unsqueeze(1) - torch.arange(m)).repeat(3, 1))
    own = seen_distances(case, decoder.attention.positions)
    assert torch.equal(own, torch.arange(12).unsqueeze(1) - torch.arange(12))


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("used", [True, False])
def test_each_offset_of_a_chunk_has_its_own_position_in_cca(kind: PositionKind, used: bool) -> None:
    case = make_case(
        chunk_size=4, length=8, batch=1, cca_layers=(1,), positions=kind, cca_positions=used
    )
    cca = case.model.blocks[0].cca
    query = torch.randn(1, 1, 12, dtype=torch.float64).expand(1, 8, 12)
    encoded = torch.randn(1, 2, 2, 8, 10, dtype=torch.float64)
    chunks = RetrievedChunks.of(case.neighbours, None, 8, case.model.config)
    out = cca(query, encoded, chunks)[0, 3:7]
    expected = 4 if used and kind != "none" else 1
    assert len({tuple(row.tolist()) for row in out.detach().round(decimals=9)}) == expected
    assert PAD not in case.neighbours


@given(asked=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 5)), max_size=6))
def test_rotations_that_steps_ask_for_are_those_of_the_row(asked: list[tuple[int, int]]) -> None:
    """Whatever was asked for before."""
    positions, known = RotaryPositions(6, 10_000.0), RotationCache()
    for start, length in asked:
        axis = Axis(length, start)
        found = known.of(positions, axis, torch.zeros(1))
        for one, two in zip(found, positions.tables(axis, axis, torch.zeros(1))[0], strict=True):
            assert one.dtype == torch.float32
            assert torch.equal(one, two)


def test_logarithmic_buckets_widen_with_distance() -> None:
    positions = LogarithmicBuckets(1)
    back = positions.buckets(torch.arange(3 * FURTHEST)).tolist()
    assert back == sorted(back)
    assert back[:8] == list(range(8))
    assert set(back) == set(range(16))
    assert back.index(15) < FURTHEST
    widths = [back.count(bucket) for bucket in range(8, 15)]
    assert widths == sorted(widths)
    ahead = positions.buckets(-torch.arange(1, 3 * FURTHEST)).tolist()
    assert ahead == [bucket + 16 for bucket in back[1:]]


def test_linear_buckets_tell_all_near_distances_apart() -> None:
    buckets = LinearBuckets(1).buckets(torch.arange(-2 * FURTHEST, 2 * FURTHEST))
    assert buckets.min() == 0
    assert buckets.max() == 2 * FURTHEST == len(buckets.unique()) - 1

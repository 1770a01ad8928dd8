"""Contract: an expert is the distribution of what followed the nearest states of the documents that
are not excluded; nothing that it says about a token depends on that token or a later one, but its
probability; and distances are exact, though an index compresses the states.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small_database import BOUNDARY, LETTERS, VOCABULARY
from states_world import COPIED, HEADS, LENGTHS, World, distributions

from retro_lab.memory.datastore import COMPRESSED, index_stage, states_stage
from retro_lab.memory.evidence import Evidence, Text, contexts_of
from retro_lab.memory.memory import Memory
from retro_lab.memory.nearest_states import NearestStates
from retro_lab.memory.neighbours import CANDIDATES, NEIGHBOURS, StateSearch
from retro_lab.memory.own_document import OwnDocument
from retro_lab.store import Stage


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("states"))


def read(world: World, text: Text | None = None, **settings) -> Evidence:
    text = text or world.text
    return world.experts(**settings).read(text, 1, len(text.tokens), world.states)


def assert_same(left: Evidence, right: Evidence) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("max_run", [None, 1, 3, 10, 32])
def test_experts_are_those_of_every_state(world: World, max_run: int | None) -> None:
    experts, tokens = world.experts(max_run=max_run), world.text.tokens
    found = experts.read(world.text, 1, len(tokens), world.states)
    column = dict(zip(experts.features, found.features.T, strict=True))
    longest = 0
    for row, place in enumerate(range(1, len(tokens))):
        near = world.neighbours(world.text, place, world.states[row], max_run)
        dense = distributions(near)
        assert found.probability[row] == pytest.approx(dense[:, tokens[place]], abs=1e-4)
        favourite = np.take_along_axis(dense, found.favourite[row, :, None], 1)[:, 0]
        assert favourite == pytest.approx(dense.max(1), abs=1e-4)
        shares = [column[name][row] for name in experts.features if "share" in name]
        assert shares == pytest.approx(dense.max(1), abs=1e-4)
        distance, token, match = np.array(near).T
        expected = {
            "knn:nearest": np.log(distance[0] / HEADS.spread),
            "knn:distance": distance.mean() / HEADS.spread,
            "knn:types": len(set(token)),
            "knn:longest_match": match.max(),
            "knn:match": match.mean(),
        }
        for name, value in expected.items():
            assert column[name][row] == pytest.approx(value, abs=1e-3), name
        longest = max(longest, match.max())
    assert found.present.all()
    assert longest == min(max_run or 8, 8)


def test_a_distribution_sums_to_one_and_gives_the_probability(world: World) -> None:
    experts, tokens = world.experts(), world.text.tokens
    assert len(experts.experts) == len(set(experts.experts)) == 3
    for place in (1, 2, 9, 20, len(tokens) - 1):
        state = world.states[place - 1 : place]
        found = experts.read(world.text, place, place + 1, state)
        before = Text(tokens[:place], world.text.excluded)
        for expert, share in enumerate(np.eye(3, dtype=np.float32)):
            dense = experts.mixture(before, share, state)
            assert dense.shape == (VOCABULARY,)
            assert dense.sum() == pytest.approx(1, abs=1e-5)
            assert dense[tokens[place]] == pytest.approx(found.probability[0, expert], abs=1e-6)
            assert dense[found.favourite[0, expert]] == pytest.approx(dense.max(), abs=1e-6)


def test_equal_favourites_are_the_lowest_token(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.datastore.keys = np.zeros_like(world.keys)
    world.datastore.tokens = np.arange(len(world.tokens), dtype=np.int32)[::-1] % LETTERS
    found = read(world, Text(np.full(34, BOUNDARY, np.int32)))
    counted = np.bincount(world.datastore.tokens[:NEIGHBOURS])
    assert len(set(counted)) == 1
    assert (found.favourite == 0).all()


def test_excluded_documents_contribute_nothing(world: World) -> None:
    tokens = world.text.tokens
    for excluded in ([], [COPIED], [COPIED, 0, 8], [2, 5, 99]):
        text = Text(tokens, np.array(excluded, np.int64))
        found = read(world, text)
        near = world.neighbours(text, 9, world.states[8])
        dense = distributions(near)[:, tokens[9]]
        assert found.probability[8] == pytest.approx(dense, abs=1e-4), excluded
    itself = read(world, Text(tokens)).features[:, 0]
    assert itself.mean() < read(world).features[:, 0].mean() - 1
    everything = Text(tokens, np.array(list(LENGTHS)))
    nothing = read(world, everything)
    assert not nothing.present.any()
    assert not nothing.probability.any()
    assert not nothing.features.any()
    assert (nothing.favourite == -1).all()
    mixture = world.experts().mixture(everything, np.ones(3, np.float32), world.states[:1])
    assert not mixture.any()


def test_fewer_states_than_neighbours_are_all_read(world: World) -> None:
    kept = 3
    text = Text(world.text.tokens, np.array([d for d in LENGTHS if d != kept]))
    found = read(world, text)
    assert LENGTHS[kept] < NEIGHBOURS
    for row in (0, 5, 30):
        near = world.neighbours(text, row + 1, world.states[row])
        assert len(near) == LENGTHS[kept]
        dense = distributions(near)[:, text.tokens[row + 1]]
        assert found.probability[row] == pytest.approx(dense, abs=1e-4)


@pytest.mark.parametrize("place", [1, 5, 17, 33])
def test_the_token_and_later_ones_change_nothing(world: World, place: int) -> None:
    tokens, other, states = world.text.tokens, world.text.tokens.copy(), world.states.copy()
    other[place:] = (other[place:] + 1) % LETTERS
    states[place:] *= -1  # the state at row r predicts token r + 1
    found, experts = read(world), world.experts()
    changed = experts.read(Text(other, world.text.excluded), 1, len(tokens), states)
    for name in ("present", "favourite", "features"):
        ours, theirs = getattr(found, name), getattr(changed, name)
        assert np.array_equal(ours[:place], theirs[:place]), name
    assert np.array_equal(found.probability[: place - 1], changed.probability[: place - 1])
    assert not np.array_equal(found.probability[place - 1], changed.probability[place - 1])


@pytest.mark.parametrize("cuts", [[1, 2, 3], [5, 20], [32]])
def test_pieces_are_the_whole(world: World, cuts: list[int]) -> None:
    whole, experts, stop = read(world), world.experts(), len(world.text.tokens)
    edges = sorted({1, *cuts, stop})
    parts = [
        experts.read(world.text, a, b, world.states[a - 1 : b - 1]) for a, b in pairwise(edges)
    ]
    for ours, joined in zip(whole, Evidence.stacked(parts), strict=True):
        assert ours == pytest.approx(joined, abs=1e-6)


def test_a_match_ends_where_a_document_starts(tmp_path: Path) -> None:
    """All tokens are the same, so only starts of documents end a match."""
    world = World(tmp_path, lengths={0: 4, 1: 30})
    world.datastore.tokens = np.zeros(34, np.int32)
    world.datastore.keys = np.zeros_like(world.keys)  # all are equally near
    tokens = np.array([BOUNDARY, *[0] * 33], np.int32)
    search, states = StateSearch(world.datastore), np.zeros((12, world.keys.shape[1]), np.float32)
    contexts = contexts_of(tokens, 1, 13, search.compared)
    found = search.neighbours(states, contexts, np.empty(0, np.int64))
    before = np.concatenate([np.arange(4), np.arange(30)])
    for place in range(1, 13):  # place - 1 tokens after the boundary are before this place
        expected = np.minimum(np.minimum(before, place - 1), 8)
        assert np.array_equal(
            np.sort(found.match[place - 1, found.there[place - 1]]), sorted(expected)
        )


def test_compressed_states_are_ranked_by_exact_distances(tmp_path: Path) -> None:
    lengths = dict(enumerate([200] * 10))
    exact, coarse = (
        World(tmp_path / name, name, lengths).datastore for name in ("Flat", "IVF4,PQ2x4")
    )
    excluded, keys = np.array([3, 7]), exact.keys[:50].astype(np.float32) + 0.05
    assert not np.allclose(
        *(each._search(keys, excluded, 8)[0] for each in (exact, coarse)), rtol=0.05
    )
    distances, rows = coarse.nearest(keys, excluded, CANDIDATES)
    assert (np.diff(distances, axis=1) >= 0).all()
    assert not np.isin(exact.document[rows], excluded).any()
    difference = exact.keys[rows].astype(np.float64) - keys[:, None]
    assert distances == pytest.approx((difference**2).sum(2), rel=1e-5)
    wanted = exact.nearest(keys, excluded, 8)[1]
    found = [len(set(a) & set(b)) for a, b in zip(wanted, rows[:, :8], strict=True)]
    by_index = coarse._search(keys, excluded, 8)[1]
    unranked = [len(set(a) & set(b)) for a, b in zip(wanted, by_index, strict=True)]
    assert np.mean(found) > 7
    assert np.mean(unranked) < 4


def test_a_control_reads_the_states_of_other_tokens(world: World) -> None:
    tokens = world.text.tokens
    control = Text(tokens, world.text.excluded, np.roll(tokens, 3))
    found, own = read(world, control), read(world)
    assert_same(found, read(world, control))
    rows = [tuple(row) for row in own.features]
    elsewhere = [rows.index(tuple(row)) for row in found.features]
    assert sorted(elsewhere) == list(range(len(rows)))
    assert all(row != other for row, other in enumerate(elsewhere))
    other = read(world, Text(tokens, world.text.excluded, np.roll(tokens, 4)))
    assert not np.array_equal(found.features, other.features)
    single = world.experts().read(control, 5, 6, world.states[4:5])
    assert not single.present.any()


def test_a_memory_hands_on_the_states(world: World) -> None:
    cache, text = OwnDocument(VOCABULARY), world.text
    assert not Memory([cache]).needs_states
    both = Memory([world.experts(), cache])
    assert both.needs_states
    assert both.families == ["knn", "cache"]
    stop = len(text.tokens)
    joined = both.read(text, 1, stop, world.states)
    assert_same(joined, Evidence.joined([read(world), cache.read(text, 1, stop)]))
    share = np.full(len(both.experts), 1 / len(both.experts), np.float32)
    last = world.states[-1:]
    parts = [world.experts().mixture(text, share[:3], last), cache.mixture(text, share[3:])]
    assert both.mixture(text, share, last) == pytest.approx(sum(parts))


def test_names_belong_to_what_they_name() -> None:
    assert all(name.startswith("knn:") for name in NearestStates.experts + NearestStates.features)


def test_a_stage_is_of_a_model_its_windows_and_what_it_reads() -> None:
    chunks = Stage("chunks", 1, {}, {})
    table, stricter = (Stage("neighbours", 1, {"max_run": run}, {}) for run in (None, 8))
    sizes = {"window": 16, "stride": 8}
    alone = states_stage(chunks, "a", **sizes)
    others = [
        states_stage(chunks, "b", **sizes),
        states_stage(chunks, "a", window=32, stride=8),
        states_stage(chunks, "a", window=16, stride=4),
        states_stage(chunks, "a", **sizes, neighbours=table, k=2),
        states_stage(chunks, "a", **sizes, neighbours=table, k=4),
        states_stage(chunks, "a", **sizes, neighbours=stricter, k=2),
    ]
    assert len({stage.key for stage in [alone, *others]}) == 7
    assert alone.key == states_stage(chunks, "a", **sizes, k=2).key  # k of no neighbours
    kinds = [index_stage(alone, factory).key for factory in (None, COMPRESSED, "Flat")]
    assert len(set(kinds)) == 3

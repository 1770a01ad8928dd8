"""Contract: heads are fitted on the datastore's own states, each without its own document; they
find the weighting that the text follows; and what is stored is what was fitted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_database import VOCABULARY
from states_world import COPIED, HEADS, LENGTHS, World

from retro_lab.memory.evidence import Text
from retro_lab.memory.match_heads import MatchHeads, build_heads, fit_heads, heads_stage
from retro_lab.memory.neighbours import LONGEST_MATCH, NEIGHBOURS, Neighbours, StateSearch
from retro_lab.store import ArtifactStore, Stage

TOKENS, USED = 6_000, 200


def made_up(follows: str) -> tuple[Neighbours, NDArray[np.int64]]:
    """Neighbours at random distances with matches up to 3, and tokens that followed: that of the
    nearest neighbour, or of one with the longest match.
    """
    rng = np.random.default_rng(0)
    distances = rng.uniform(0, 10, (TOKENS, NEIGHBOURS)).astype(np.float32)
    tokens = np.sort(rng.integers(0, USED, (TOKENS, NEIGHBOURS)), axis=1).astype(np.int32)
    match = rng.integers(0, 4, (TOKENS, NEIGHBOURS))
    best = distances.argmin(1) if follows == "nearest" else match.argmax(1)
    return Neighbours(distances, tokens, match), tokens[np.arange(TOKENS), best].astype(np.int64)


def nats(heads: MatchHeads, found: Neighbours, targets: NDArray[np.int64]) -> float:
    """Mean nats of the best head."""
    hit = found.tokens == targets[:, None]
    given = np.einsum("tke,tk->te", heads.weights(found), hit)
    return float(-np.log(np.maximum(given, 1e-9)).mean(0).min())


@pytest.fixture(scope="module")
def uniform() -> NDArray[np.float64]:
    return np.full(TOKENS, -np.log(USED))


def test_heads_follow_distances_where_these_tell(uniform: NDArray[np.float64]) -> None:
    found, targets = made_up("nearest")
    heads = fit_heads(found, targets, uniform)
    assert (heads.temperature > 0).all()
    assert (np.diff(heads.temperature) >= 0).all()
    assert nats(heads, found, targets) < nats(HEADS._replace(spread=heads.spread), found, targets)
    assert heads.temperature[0] < 0.1
    assert np.abs(heads.bias[0, :4]).max() < 1


def test_heads_follow_matches_where_these_tell(uniform: NDArray[np.float64]) -> None:
    found, targets = made_up("match")
    heads = fit_heads(found, targets, uniform)
    assert (heads.bias[:, 0] == 0).all()
    best = heads.bias[:, 3] - heads.bias[:, 2]
    assert best.max() > 3
    assert (heads.bias[:, LONGEST_MATCH] > heads.bias[:, 3]).all()  # no match was as long
    assert nats(heads, found, targets) < 0.9 * np.log(NEIGHBOURS)


def test_a_fit_is_the_same_again(uniform: NDArray[np.float64]) -> None:
    found, targets = made_up("match")
    one, other = (fit_heads(found, targets, uniform) for _ in range(2))
    assert np.array_equal(one.temperature, other.temperature)
    assert np.array_equal(one.bias, other.bias)


def test_rows_are_read_without_their_own_document(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows = np.flatnonzero(np.isin(world.document, [COPIED, 1, 4]))
    search = StateSearch(world.datastore)
    found = search.of_rows(rows)
    assert len(found.tokens) == len(rows)
    for at in (0, 1, 20, len(rows) - 1):
        row = int(rows[at])
        own = int(world.document[row])
        before = world.tokens[:row][world.document[:row] == own]
        text = Text(np.array([VOCABULARY, *before], np.int32), np.array([own]))
        near = world.neighbours(text, len(text.tokens), world.keys[row].astype(np.float32))
        assert np.sort(found.distances[at]) == pytest.approx([n.distance for n in near], rel=1e-4)
        assert sorted(found.match[at]) == sorted(n.match for n in near)
        assert found.tokens[at].tolist() == sorted(n.token for n in near)


def test_the_spread_is_that_of_the_distances(tmp_path: Path) -> None:
    world = World(tmp_path)
    apart = []
    for row in range(len(world.tokens)):
        others = world.keys[world.document != world.document[row]].astype(np.float64)
        squared = np.sort(((others - world.keys[row]) ** 2).sum(1))[:NEIGHBOURS]
        apart.append(squared[-1] - squared[0])
    every = StateSearch(world.datastore).of_rows(np.arange(len(world.tokens)))
    assert every.spread() == pytest.approx(np.median(apart), rel=1e-3)


@pytest.mark.parametrize("lengths", [LENGTHS, {0: 40, 1: 9}, {COPIED: 20}])
def test_what_is_stored_is_what_was_fitted(tmp_path: Path, lengths: dict[int, int]) -> None:
    """Also of states with few neighbours, and of one document alone, whose states have none."""
    world, store = World(tmp_path, lengths=lengths), ArtifactStore(tmp_path)
    datastore, stages = world.datastore, [Stage("a", 1, {}, {}), Stage("b", 1, {}, {})]
    stage, other = (heads_stage(*stages, max_run) for max_run in (None, 2))
    assert stage.key != other.key
    built = store.build(stage, lambda workspace: build_heads(datastore, None, workspace))
    heads = MatchHeads.load(built.path)
    assert built.stats["tokens"] == len(world.tokens)
    assert np.isfinite(heads.temperature).all()
    assert np.isfinite(heads.bias).all()
    again = tmp_path / "again"
    again.mkdir()
    heads.save(again)
    assert (again / "heads.json").read_bytes() == built.file("heads.json").read_bytes()
    if len(lengths) == 1:
        assert heads.spread == 1
        found = StateSearch(datastore).of_rows(np.arange(20))
        assert not found.there.any()
        assert not heads.weights(found).any()
        assert not found.summary(heads.spread).any()

"""Contract: an expert is a distribution, over the documents that are not excluded and by their
likeness to the text before the chunk; nothing that it says about a token depends on that token or a
later one, but its probability; how a text is cut into ranges changes nothing.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from counted_world import histograms
from experts_world import EXCLUDED, World
from small_database import BOUNDARY, LETTERS, context_at

from retro_lab.memory.database_experts import TOPIC_ORDERS
from retro_lab.memory.evidence import Evidence, Text
from retro_lab.memory.sorted_contexts import sort_contexts

BOTH = pytest.mark.parametrize("topical", [False, True], ids=["suffix", "topic"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("topics"))


def assert_same(left: Evidence, right: Evidence) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_experts_are_those_of_every_occurrence(world: World) -> None:
    experts, tokens = world.experts(True), world.text.tokens
    found = experts.read(world.text, 1, len(tokens))
    orders = experts.reader.orders
    at = [orders.index(order) for order in TOPIC_ORDERS]
    for place in range(1, len(tokens)):
        context = context_at(tokens.tolist(), place)
        counts, _ = histograms(world.entries, context, world.weights(place), 10, orders)
        dense = np.concatenate([counts[:, :, 0], counts[at, :, 1], counts[at, :, 2]])
        total = dense.sum(1)
        row = place - 1
        assert np.array_equal(found.present[row], total > 0)
        expected = dense[:, tokens[place]] / np.where(total > 0, total, 1)
        assert found.probability[row] == pytest.approx(expected, abs=1e-6)
        favourite = np.take_along_axis(dense, found.favourite[row, :, None].clip(0), 1)[:, 0]
        assert favourite == pytest.approx(dense.max(1), rel=1e-5)
        assert np.array_equal(found.favourite[row] < 0, total == 0)
    assert 0.2 < found.present.mean() < 0.9


def test_features_say_what_their_names_do(world: World) -> None:
    experts, stop = world.experts(True), len(world.text.tokens)
    found = experts.read(world.text, 1, stop)
    column = dict(zip(experts.features, found.features.T, strict=True))
    assert len(column) == len(experts.features)
    assert len(set(experts.experts)) == found.probability.shape[1]
    orders = np.array(experts.reader.orders)
    for row, place in enumerate(range(1, stop)):
        context = context_at(world.text.tokens.tolist(), place)
        weights = world.weights(place)
        counts, documents = histograms(world.entries, context, weights, 10, orders.tolist())
        total = counts.sum(1)
        for at in (0, 1, 4):
            name, seen = orders[at], counts[at, :, 0]
            assert column[f"suffix:count_{name}"][row] == pytest.approx(np.log1p(seen.sum()))
            assert column[f"suffix:types_{name}"][row] == pytest.approx(np.log1p((seen > 0).sum()))
            assert column[f"suffix:documents_{name}"][row] == pytest.approx(np.log1p(documents[at]))
            share = seen.max() / max(seen.sum(), 1)
            assert column[f"suffix:share_{name}"][row] == pytest.approx(share)
        topical = counts[1, :, 2].max() / np.where(total[1, 2] > 0, total[1, 2], 1)
        assert column["topic:40_2_share"][row] == pytest.approx(topical, abs=1e-6)
        assert column["topic:likest"][row] == pytest.approx(world.cosines(place).max(), abs=1e-6)
        assert column["suffix:match"][row] == ((total[:, 0] > 0) * orders).max()
    assert set(world.experts(False).features) < set(experts.features)
    assert set(world.experts(False).experts) < set(experts.experts)


@BOTH
def test_a_distribution_sums_to_one_and_gives_the_probability(world: World, topical: bool) -> None:
    experts, tokens = world.experts(topical), world.text.tokens
    number = len(experts.experts)
    for place in (1, 2, 7, 8, 9, 16, 23, 40, len(tokens) - 1):
        found = experts.read(world.text, place, place + 1)
        before = Text(tokens[:place], EXCLUDED)
        for expert, share in enumerate(np.eye(number, dtype=np.float32)):
            dense = experts.mixture(before, share)
            present, favourite = found.present[0, expert], found.favourite[0, expert]
            assert dense.sum() == pytest.approx(float(present), abs=1e-5)
            assert dense[tokens[place]] == pytest.approx(found.probability[0, expert], abs=1e-6)
            assert favourite == -1 or dense[favourite] == pytest.approx(dense.max(), abs=1e-6)
            assert topical or favourite == (dense.argmax() if present else -1)
        shares = np.random.default_rng(place).dirichlet(np.ones(number)).astype(np.float32)
        mixture = experts.mixture(before, shares)
        assert mixture[tokens[place]] == pytest.approx(shares @ found.probability[0], abs=1e-6)
        assert mixture.sum() == pytest.approx(shares @ found.present[0], abs=1e-5)


@BOTH
@pytest.mark.parametrize("place", [1, 5, 8, 9, 24, 30, 47])
def test_later_tokens_change_nothing(world: World, topical: bool, place: int) -> None:
    experts, tokens = world.experts(topical), world.text.tokens
    other = tokens.copy()
    other[place:] = (other[place:] + 1) % LETTERS
    found, changed = (
        experts.read(Text(each, EXCLUDED), 1, len(tokens)) for each in (tokens, other)
    )
    for name in ("present", "favourite", "features"):
        ours, theirs = getattr(found, name), getattr(changed, name)
        assert np.array_equal(ours[:place], theirs[:place]), name
    assert np.array_equal(found.probability[: place - 1], changed.probability[: place - 1])
    assert not np.array_equal(found.features[place:], changed.features[place:])
    short = experts.read(Text(tokens[: place + 1], EXCLUDED), 1, place + 1)
    for name, before in zip(found._fields, short, strict=True):
        assert np.array_equal(before, getattr(found, name)[:place]), name


@BOTH
@pytest.mark.parametrize("cuts", [[1, 2, 3], [8, 16], [5, 13, 15, 40], [7, 8, 9, 33]])
def test_pieces_are_the_whole(world: World, topical: bool, cuts: list[int]) -> None:
    experts, stop = world.experts(topical), len(world.text.tokens)
    whole = experts.read(world.text, 1, stop)
    edges = sorted({1, *cuts, stop})
    parts = [experts.read(world.text, *pair) for pair in pairwise(edges)]
    joined = Evidence.stacked(parts)
    assert np.array_equal(joined.present, whole.present)
    assert np.array_equal(joined.favourite, whole.favourite)
    assert joined.probability == pytest.approx(whole.probability, abs=1e-6)
    assert joined.features == pytest.approx(whole.features, abs=1e-6)


@BOTH
def test_what_was_read_before_changes_nothing(world: World, topical: bool) -> None:
    experts, tokens = world.experts(topical), world.text.tokens
    other = Text(np.roll(tokens, 7), np.array([1]))
    for text, start in ((world.text, 20), (other, 20), (world.text, 30), (other, 5), (other, 40)):
        fresh = world.experts(topical).read(text, start, start + 9)
        assert_same(experts.read(text, start, start + 9), fresh)
    assert_same(experts.read(world.text, 1, 9), world.experts(topical).read(world.text, 1, 9))


@BOTH
def test_excluded_documents_contribute_nothing(world: World, topical: bool) -> None:
    stop = len(world.text.tokens)
    of_kept = ~np.isin(world.chunks.document, EXCLUDED)
    halves = [of_kept & (world.chunks.document < 4), of_kept & (world.chunks.document >= 4)]
    rest = [sort_contexts(world.chunks, np.flatnonzero(half)) for half in halves]
    without = world.experts(topical, rest)
    found = world.experts(topical).read(world.text, 1, stop)
    assert_same(without.read(world.text, 1, stop), found)
    share = np.full(len(without.experts), 1 / len(without.experts), np.float32)
    mixture = world.experts(topical).mixture(world.text, share)
    assert mixture == pytest.approx(without.mixture(world.text, share), abs=1e-6)
    copied = world.experts(topical).read(Text(world.text.tokens), 1, stop)
    assert copied.probability[40:].mean() > found.probability[40:].mean() + 0.2
    everything = Text(world.text.tokens, np.arange(world.chunks.num_documents))
    assert not world.experts(topical).read(everything, 1, stop).present.any()


@BOTH
def test_a_control_reads_another_document(world: World, topical: bool) -> None:
    """Only the answer depends on the text itself."""
    experts, others = world.experts(topical), world.text.tokens
    stop = len(others)
    texts = (Text(each, EXCLUDED, others) for each in (others, np.roll(others, 1)))
    found, changed = (experts.read(each, 1, stop) for each in texts)
    assert_same(found, experts.read(world.text, 1, stop))
    for name in ("present", "favourite", "features"):
        assert np.array_equal(getattr(found, name), getattr(changed, name)), name
    assert not np.array_equal(found.probability, changed.probability)


def test_the_first_token_has_only_the_boundary_before_it(world: World) -> None:
    found = world.experts(True).read(world.text, 1, 2)
    assert found.present[0, 0]  # every document starts with it
    assert not found.present[0, 1]
    assert world.text.tokens[0] == BOUNDARY


def test_texts_that_are_read_in_turn_are_read_as_alone(world: World) -> None:
    """As an evaluation reads a text and its control; none is taken for another one."""
    other = Text(world.text.tokens[::-1].copy(), EXCLUDED)
    alike = Text(np.concatenate([world.text.tokens[:20], other.tokens[20:]]), EXCLUDED)
    together, stop = world.experts(True), len(world.text.tokens)
    for start, end in pairwise([1, 9, 16, 33, stop]):
        for text in (world.text, other, alike):
            found = together.read(text, start, end)
            alone = world.experts(True).read(text, start, end)
            for name, ours, theirs in zip(found._fields, found, alone, strict=True):
                assert ours == pytest.approx(theirs, abs=1e-6), name

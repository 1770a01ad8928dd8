"""Contract: entries are sorted by the tokens before them, the last one first, as far as the
document's start or `LONGEST` tokens, and equal ones by place; segments are whole documents, and how
the text is cut into them, at once or by extending a base, changes no count.
"""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_database import (
    BOUNDARY,
    SmallDatabase,
    context_at,
    cut,
    in_order,
    padded,
    random_documents,
)

from retro_lab.memory.context_reader import ContextCounts, ContextReader
from retro_lab.memory.sorted_contexts import (
    LONGEST,
    Segment,
    build_contexts,
    contexts_stage,
    open_segments,
    sort_contexts,
)
from retro_lab.store import Artifact, ArtifactStore, Stage

SEEDS = st.integers(0, 2**32)
CHUNKS = Stage("chunks", 1, {}, {})


def listed(chunks: SmallDatabase, segment: Segment) -> list[tuple[int, int]]:
    """Place and token of each entry, in order."""
    assert segment.order.dtype == np.uint32
    assert segment.following.dtype == chunks.tokens.dtype
    places = segment.base + segment.order.astype(np.int64)
    return list(zip(places.tolist(), segment.following.tolist(), strict=True))


def expected(chunks: SmallDatabase, documents: list[int]) -> list[tuple[int, int]]:
    return [(each.place, each.token) for each in in_order(chunks, documents)]


@settings(max_examples=150, deadline=None)
@given(
    seed=SEEDS,
    letters=st.integers(1, 4),
    chunk_size=st.integers(1, 9),
    cuts=st.lists(st.integers(1, 7), max_size=2),
    dtype=st.sampled_from([np.uint16, np.int32]),
)
def test_order_is_that_of_the_reversed_contexts(seed, letters, chunk_size, cuts, dtype) -> None:
    chunks = SmallDatabase(random_documents(seed, letters=letters), chunk_size, dtype=dtype)
    for segment, documents in zip(*cut(chunks, cuts), strict=True):
        assert listed(chunks, segment) == expected(chunks, documents)


def test_a_context_has_at_most_the_longest_tokens() -> None:
    same = [1] * LONGEST
    chunks = SmallDatabase([[7, *same, 3], [0, *same, 2]])
    segment = sort_contexts(chunks, np.arange(chunks.num_chunks))
    last = [token for _, token in listed(chunks, segment) if token in (2, 3)]
    assert last == [3, 2]  # equal as far as that, so as in the text


def test_a_spelt_boundary_ends_no_context() -> None:
    chunks = SmallDatabase([[2, BOUNDARY, 1, 5], [1, BOUNDARY, 1, 6], [1, 7]])
    segment = sort_contexts(chunks, np.arange(chunks.num_chunks))
    after_one = [token for _, token in listed(chunks, segment) if token in (5, 6, 7)]
    assert after_one == [7, 6, 5]


def built(root: Path, chunks: SmallDatabase, **settings) -> Artifact:
    base = settings.pop("base", None)
    stage = contexts_stage(Stage("chunks", chunks.num_chunks, {}, {}), base)
    path = None if base is None else base.path
    return ArtifactStore(root).build(stage, lambda w: build_contexts(chunks, w, path, **settings))


def counts(chunks: SmallDatabase, segments: list[Segment]) -> ContextCounts:
    """Of every context of the store, under two weightings."""
    asked = [(context_at(t, at), t[at]) for t in chunks.full_texts for at in range(1, len(t))]
    weights = np.ones((chunks.num_documents, 2), np.float32)
    weights[:, 1] += np.arange(chunks.num_documents) % 4
    targets = np.array([token for _, token in asked], np.int32)
    return ContextReader(chunks, segments).counts(padded([c for c, _ in asked]), targets, weights)


def assert_same(left: ContextCounts, right: ContextCounts) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_the_stage_sorts_the_documents_of_the_database(tmp_path: Path) -> None:
    """Those of training with text; also where a chunk of theirs has none."""
    documents = random_documents(3)
    splits = ["test" if number == 4 else "train" for number in range(len(documents))]
    alone = SmallDatabase(documents, splits=splits)
    silent = [int(alone.first_chunk[number]) for number in range(2, 4)]
    chunks = SmallDatabase(documents, splits=splits, silent=silent)
    assert len(chunks.searched) < len(alone.searched)
    artifact = built(tmp_path, chunks)
    [segment] = open_segments(artifact.path)
    searched = [number for number, d in enumerate(documents) if d and splits[number] == "train"]
    assert listed(chunks, segment) == expected(chunks, searched)
    assert artifact.stats == {"tokens": sum(len(documents[d]) for d in searched), "segments": 1}
    assert not segment.order.flags.writeable


@pytest.mark.parametrize("at_once", [1, 30, 90, 150])
def test_segments_are_whole_documents_as_many_as_fit(tmp_path: Path, at_once: int) -> None:
    chunks = SmallDatabase([[0] * length for length in (20, 60, 5, 7, 100, 3, 9, 30)])
    artifact = built(tmp_path, chunks, at_once=at_once)
    segments, size = open_segments(artifact.path), chunks.chunk_size
    filled = [np.sort(s.base + s.order.astype(np.int64)) for s in segments]
    owners = [np.unique(chunks.document[places // size]).tolist() for places in filled]
    assert list(chain(*owners)) == list(range(chunks.num_documents))
    assert artifact.stats["segments"] == len(segments) > (1 if at_once < 150 else 0)
    first = chunks.first_chunk
    for each in owners:
        assert (first[each[-1] + 1] - first[each[0]]) * size <= at_once or len(each) == 1
    for each, following in pairwise(owners):
        assert (first[following[0] + 1] - first[each[0]]) * size > at_once


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, at_once=st.integers(1, 120))
def test_segments_change_no_count(tmp_path_factory, seed: int, at_once: int) -> None:
    chunks, root = SmallDatabase(random_documents(seed)), tmp_path_factory.mktemp("store")
    one = open_segments(built(root / "one", chunks).path)
    several = open_segments(built(root / "several", chunks, at_once=at_once).path)
    assert len(one) == 1
    assert_same(counts(chunks, several), counts(chunks, one))


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, known=st.integers(3, 7))
def test_a_base_and_its_extension_count_as_the_whole(tmp_path_factory, seed, known) -> None:
    documents, root = random_documents(seed), tmp_path_factory.mktemp("store")
    splits = ["train" if number % 4 else "validation" for number in range(len(documents))]
    first = SmallDatabase(documents[:known], splits=splits[:known])
    chunks = SmallDatabase(documents, splits=splits)
    base = built(root, first)
    extension = built(root, chunks, base=base)
    whole = built(root, chunks)
    assert base.stats["tokens"] + extension.stats["tokens"] == whole.stats["tokens"]
    joined = [*open_segments(base.path), *open_segments(extension.path)]
    assert_same(counts(chunks, joined), counts(chunks, open_segments(whole.path)))


def test_an_extension_by_nothing_is_empty(tmp_path: Path) -> None:
    chunks = SmallDatabase(random_documents(1))
    base = built(tmp_path, chunks)
    extension = built(tmp_path, chunks, base=base)
    assert extension.stats == {"tokens": 0, "segments": 0}
    assert open_segments(extension.path) == []
    assert built(tmp_path, chunks, base=extension).stats["tokens"] == 0


def test_nothing_searched_is_an_empty_base(tmp_path: Path) -> None:
    base = built(tmp_path, SmallDatabase([[1, 2, 3]], splits=["test"]))
    assert open_segments(base.path) == []
    chunks = SmallDatabase([[1, 2, 3], [4, 5, 6]], splits=["test", "train"])
    assert built(tmp_path, chunks, base=base).stats["tokens"] == 3


def test_the_key_holds_the_chunks_and_the_base() -> None:
    alone = contexts_stage(CHUNKS)
    assert dict(alone.fields) == {"longest": LONGEST}
    keys = {
        alone.key,
        contexts_stage(Stage("chunks", 2, {}, {})).key,
        contexts_stage(CHUNKS, alone).key,
    }
    assert len(keys) == 3
    assert contexts_stage(CHUNKS).key == alone.key

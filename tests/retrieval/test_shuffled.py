"""Contract of shuffled neighbours: the same texts are read in the same numbers, each by a chunk of
another document; the same seed deals the same way, and other splits are left alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retro_lab.config.errors import UserError
from retro_lab.retrieval.filters.shuffled import derangement, shuffle_neighbours
from retro_lab.retrieval.table import NeighbourTable
from retro_lab.testing.small_world import small_chunks


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=60), st.integers(0, 99))
def test_every_member_lands_in_another_group(groups: list[int], seed: int) -> None:
    group = np.array(groups)
    if len(set(groups)) < 2:
        with pytest.raises(UserError, match="one document"):
            derangement(group, seed)
        return
    source = derangement(group, seed)
    assert (group[source] != group).all()
    assert (derangement(group, seed) == source).all()
    if 2 * max(Counter(groups).values()) <= len(groups):
        assert sorted(source) == list(range(len(groups))), "a permutation"


def test_seeds_deal_differently() -> None:
    group = np.repeat(np.arange(10), 6)
    assert (derangement(group, 0) != derangement(group, 1)).mean() > 0.8


def test_the_same_texts_are_read_by_other_documents() -> None:
    chunks = small_chunks()
    rng = np.random.default_rng(0)
    database = chunks.chunks_of("train")
    ids = rng.choice(database, (chunks.num_chunks, 4)).astype(np.int32)
    table = NeighbourTable(ids, np.zeros(ids.shape, np.float32))
    shuffled = shuffle_neighbours(table, chunks, "test", seed=3)
    scored = chunks.chunks_of("test")
    readers = scored[
        np.isin(scored + 1, scored) & (chunks.first_chunk[1:][chunks.document[scored]] > scored + 1)
    ]

    def read(from_table: NeighbourTable, rows: np.ndarray) -> np.ndarray:
        return from_table.select(rows, 2, chunks.document[rows][:, None], chunks.document)

    before, after = read(table, readers), read(shuffled, readers)
    assert Counter(map(tuple, before.tolist())) == Counter(map(tuple, after.tolist()))
    assert (before != after).any(axis=1).mean() > 0.9
    source = shuffled.source[readers]
    assert (chunks.document[source] != chunks.document[readers]).all()
    others = np.setdiff1d(np.arange(chunks.num_chunks), readers)
    assert (read(table, others) == read(shuffled, others)).all()

"""Contract of neighbours in a batch: none shares a document with anything packed into the window,
their tokens are those of the store, and missing ones are rows of padding."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_store import PAD, SmallStore
from small_table import SmallTable

from retro_lab.config.schema import ChunkingConfig
from retro_lab.data.dataset import EvaluationData, TrainingData


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=2, max_size=8),
    window=st.integers(1, 6),
    k=st.integers(1, 3),
    continuation=st.integers(0, 2),
    evaluate=st.booleans(),
)
def test_no_neighbour_shares_a_document_with_the_window(lengths, window, k, continuation, evaluate):
    store = SmallStore(lengths, chunk_size=3)
    chunking = ChunkingConfig(3, continuation, window * 3)
    table = SmallTable(store)
    if evaluate:
        data = EvaluationData(store, "train", chunking, table, k, 3)
    else:
        data = TrainingData(store, chunking, table, k)
    if not len(data):
        return
    batch = {n: v.numpy() for n, v in data.__getitems__(range(len(data))).items()}
    assert batch["neighbour_ids"].shape == (len(data), window, k, 3 * (1 + continuation))
    for row in range(len(data)):
        chunks = batch["chunk_ids"][row]
        packed = set(store.document[chunks[chunks >= 0]])
        neighbours = batch["neighbour_chunks"][row]
        found = neighbours[neighbours >= 0]
        assert not packed & set(store.document[found])
        assert (neighbours[chunks < 0] == -1).all()
        tokens = batch["neighbour_ids"][row]
        assert (tokens[neighbours < 0] == PAD).all()
        assert (tokens[neighbours >= 0][:, :3] == store.tokens[found]).all()


class CopiedStore(SmallStore):
    """Documents 1 and 3 are the same, as a database may find."""

    @property
    def identity(self) -> np.ndarray:
        return np.array([0, 1, 2, 1, 4, 5], np.int32)[self.document]


def test_no_neighbour_is_a_copy_of_a_document_in_the_window():
    store = CopiedStore([9] * 6, chunk_size=3)
    data = TrainingData(store, ChunkingConfig(3, 1, 9), SmallTable(store, 16), 8)
    batch = data.__getitems__(range(len(data)))
    read = [set(store.document[row[row >= 0]].tolist()) for row in batch["neighbour_chunks"]]
    assert not read[1] & {1, 3}
    assert not read[3] & {1, 3}
    assert read[0] | read[2] == set(range(6))


def test_neighbours_come_from_the_tables_order():
    store = SmallStore([8] * 6, chunk_size=4)
    table = SmallTable(store)
    data = TrainingData(store, ChunkingConfig(4, 1, 8), table, 2)
    batch = data[0]
    for place, chunk in enumerate(batch["chunk_ids"].tolist()):
        row = table.ids[chunk].tolist()
        allowed = [n for n in row if n >= 0 and store.document[n] != 0]
        found = batch["neighbour_chunks"][place]
        assert found.tolist() == [*allowed, -1, -1][:2]


def test_without_a_table_there_are_no_neighbours():
    data = TrainingData(SmallStore([8]), ChunkingConfig(4, 1, 8), None, 2)
    assert "neighbour_ids" not in data[0]


def test_a_batch_is_its_items_stacked_and_everything_is_int64():
    store = SmallStore([7, 12, 5], chunk_size=4)
    data = TrainingData(store, ChunkingConfig(4, 1, 8), SmallTable(store), 2)
    batch = data.__getitems__([2, 0])
    for name, tensor in batch.items():
        assert tensor.dtype == torch.int64, name
        assert torch.equal(tensor, torch.stack([data[2][name], data[0][name]])), name
    assert np.array_equal(batch["chunk_ids"][0], data[2]["chunk_ids"])

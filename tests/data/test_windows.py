"""Contract of windows: evaluation scores every token but the boundary once and its bytes add up;
no evaluation window leaves its document; training windows cover the training split in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_store import BOUNDARY, PAD, SmallStore

from retro_lab.config.schema import ChunkingConfig
from retro_lab.data.dataset import IGNORED, EvaluationData, TrainingData

SPLITS = ("train", "validation", "test")


@st.composite
def corpora(draw):
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
    splits = draw(st.lists(st.sampled_from(SPLITS), min_size=len(lengths), max_size=len(lengths)))
    size = draw(st.integers(1, 5))
    window = draw(st.integers(1, 5))
    stride = draw(st.integers(1, window))
    return SmallStore(lengths, size, splits), window, stride


def chunking(store: SmallStore, window: int) -> ChunkingConfig:
    return ChunkingConfig(store.chunk_size, 1, window * store.chunk_size)


def evaluation(store: SmallStore, split: str, window: int, stride: int) -> EvaluationData:
    return EvaluationData(store, split, chunking(store, window), None, 0, stride * store.chunk_size)


def scored_tokens(store: SmallStore, data: EvaluationData) -> list[tuple[int, int]]:
    """(document, position) of each scored target, checked against the store on the way."""
    size, found = store.chunk_size, []
    for row in range(len(data)):
        item = {name: value.numpy() for name, value in data[row].items()}
        for place in np.flatnonzero(item["targets"] != IGNORED):
            chunk = item["target_chunks"][place]
            document = store.document[chunk]
            source = item["chunk_ids"][place // size]
            predictor = store.index[source] * size + place % size
            position = predictor + 1
            assert chunk == np.flatnonzero(store.document == document)[position // size]
            assert item["targets"][place] == store.tokens[chunk, position % size]
            assert item["target_bytes"][place] == store.token_bytes[chunk, position % size]
            assert store.document[source] == document == item["document_ids"][place]
            found.append((int(document), int(position)))
    return found


@settings(max_examples=150, deadline=None)
@given(corpora())
def test_every_token_is_scored_once_and_bytes_add_up(corpus):
    store, window, stride = corpus
    for split in SPLITS:
        data = evaluation(store, split, window, stride)
        documents = [d for d, s in enumerate(store.document_splits) if s == split]
        expected = [(d, p) for d in documents for p in range(1, store.lengths[d])]
        assert sorted(scored_tokens(store, data)) == expected
        if len(data):
            rows = data.__getitems__(range(len(data)))
            total = store.token_bytes[store.chunks_of(split)].sum()
            assert rows["target_bytes"].sum().item() == total


@settings(max_examples=150, deadline=None)
@given(corpora())
def test_evaluation_windows_stay_in_a_document_and_keep_their_context(corpus):
    store, window, stride = corpus
    data = evaluation(store, "train", window, stride)
    size = store.chunk_size
    for row in range(len(data)):
        item = data[row]
        chunks = item["chunk_ids"][item["chunk_ids"] >= 0].numpy()
        assert len(set(store.document[chunks])) == 1
        assert list(np.diff(chunks)) == [1] * (len(chunks) - 1)
        assert set(item["document_ids"].tolist()) == {store.document[chunks[0]]}
        place = np.flatnonzero(item["targets"].numpy() != IGNORED)
        assert len(place)  # no window is wasted
        if store.index[chunks[0]] > 0:  # all but a document's first windows see what overlaps
            assert place[0] == (window - stride) * size
        else:
            assert place[0] == 0


def test_a_document_may_end_on_the_first_token_of_a_chunk():
    # 9 tokens, M=4, U=2: the last token is predicted from the first window's last position.
    store = SmallStore([9], chunk_size=4)
    data = evaluation(store, "train", window=2, stride=1)
    assert len(data) == 1
    assert data[0]["targets"][7] == store.tokens[2, 0]
    assert data[0]["target_chunks"][7] == 2


def test_stride_one_window_worth_of_overlap_is_not_scored_twice():
    store = SmallStore([16], chunk_size=4)
    data = evaluation(store, "train", window=2, stride=1)
    scored = [(row["targets"] != IGNORED).sum().item() for row in data]
    assert scored == [8, 4, 3]  # the last one has no token beyond the document


@settings(max_examples=100, deadline=None)
@given(corpora())
def test_training_windows_cover_the_split_in_order_and_never_predict_across_documents(corpus):
    store, window, _ = corpus
    data = TrainingData(store, chunking(store, window), None, 0)
    chunks = store.chunks_of("train")
    seen: list[int] = []
    targets = 0
    for row in range(len(data)):
        item = data[row]
        ids = item["chunk_ids"].numpy()
        seen += ids[ids >= 0].tolist()
        expected = np.where(ids[:, None] >= 0, store.tokens[np.maximum(ids, 0)], PAD)
        assert item["input_ids"].tolist() == expected.reshape(-1).tolist()
        assert BOUNDARY not in item["targets"]
        assert PAD not in item["targets"]
        documents = store.document[item["target_chunks"].numpy()]
        hit = item["target_chunks"].numpy() >= 0
        assert (documents[hit] == item["document_ids"].numpy()[hit]).all()
        targets += hit.sum()
    assert seen == chunks.tolist()
    # Each token but the boundaries is a target once: windows follow one another in a document.
    lengths = [n for n, s in zip(store.lengths, store.document_splits, strict=True) if s == "train"]
    assert targets == sum(lengths) - len(lengths)


def test_padding_carries_the_document_before_it():
    store = SmallStore([3, 6], chunk_size=4)
    item = TrainingData(store, chunking(store, 4), None, 0)[0]
    assert item["document_ids"].tolist() == [0] * 4 + [1] * 12
    assert item["chunk_ids"].tolist() == [0, 1, 2, -1]


def test_an_empty_window_reads_and_scores_nothing():
    data = evaluation(SmallStore([10]), "train", 2, 1)
    item = data.__getitems__([0, -1])
    assert (item["targets"][1] == IGNORED).all()
    assert (item["input_ids"][1] == PAD).all()
    assert item["target_bytes"][1].sum() == 0


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_documents_has_no_windows(split):
    assert len(evaluation(SmallStore([10]), split, 2, 1)) == 0


@pytest.mark.parametrize("stride", [1, 3, 6])
def test_a_stride_off_the_grid_of_chunks_is_refused(stride: int) -> None:
    store = SmallStore([20, 20], 4, ["train", "test"])
    with pytest.raises(ValueError, match="not whole chunks"):
        EvaluationData(store, "test", chunking(store, 3), None, 0, stride)

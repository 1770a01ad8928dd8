"""Contract: a text is as like a document as the cosine of their tf-idf vectors, (1 + log tf)
log(D / df) on both sides, says; reading it piece by piece is reading it at once.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_database import BOUNDARY, LETTERS, SmallDatabase, random_documents

from retro_lab.memory.topics import GrowingText, Topics, build_topics, topics_stage
from retro_lab.store import Artifact, ArtifactStore, Stage

TEXTS = st.lists(st.integers(0, LETTERS - 1), max_size=40)


def database(seed: int = 4) -> SmallDatabase:
    """Its last document but one is not searched, and its last one has a token that no other has."""
    documents = [*random_documents(seed, letters=6, count=9), [0, 1, 0, 2], [7, 1, 7, 7]]
    splits = ["train"] * (len(documents) - 2) + ["validation", "train"]
    return SmallDatabase(documents, splits=splits)


def built(root: Path, chunks: SmallDatabase, block: int | None = None) -> Artifact:
    stage = topics_stage(Stage("chunks", 1, {}, {}))
    store = ArtifactStore(root, largest_block=block)
    return store.build(stage, lambda place: build_topics(chunks, place))


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Topics:
    return Topics(built(tmp_path_factory.mktemp("topics"), database()).path)


def dense(chunks: SmallDatabase, text: list[int]) -> NDArray[np.float64]:
    """The cosines, from a matrix of all counts; a token of no document counts as one of one."""
    counts = np.zeros((chunks.num_documents, chunks.vocab_size))
    for document in np.unique(chunks.document[chunks.searched]).tolist():
        words = [token for token in chunks.full_texts[document] if token != BOUNDARY]
        counts[document] = np.bincount(words, minlength=chunks.vocab_size)
    frequency = (counts > 0).sum(0)
    idf = np.log(counts.any(1).sum() / np.maximum(frequency, 1))

    def vectors(tf: NDArray) -> NDArray:
        return np.where(tf > 0, 1 + np.log(np.maximum(tf, 1)), 0) * idf

    ours, theirs = vectors(np.bincount(text, minlength=chunks.vocab_size)), vectors(counts)
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours)
    return theirs @ ours / np.maximum(lengths, 1e-12)


def grown(topics: Topics, chunks: SmallDatabase, pieces: list[list[int]]) -> NDArray[np.float64]:
    text = GrowingText(topics, chunks.num_documents)
    for piece in pieces:
        text.read(np.array(piece, np.int32))
    return text.cosines()


@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_cosines_are_those_of_the_dense_vectors(topics: Topics, text: list[int]) -> None:
    chunks = database()
    found = grown(topics, chunks, [text])
    assert found == pytest.approx(dense(chunks, text), abs=1e-6)
    assert found.shape == (chunks.num_documents,)


def test_a_document_is_like_itself_and_unlike_those_without_its_words(topics: Topics) -> None:
    chunks = database()
    found = grown(topics, chunks, [[7, 1, 7, 7]])
    assert found[-1] == pytest.approx(1)
    assert found.argmax() == len(found) - 1
    assert found[-2] == 0  # it is not searched
    lonely = grown(topics, chunks, [[7]])
    assert lonely[-1] > 0.5
    assert (lonely[:-1] == 0).all()


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(TEXTS, max_size=5))
def test_pieces_are_the_whole(topics: Topics, pieces: list[list[int]]) -> None:
    chunks = database()
    whole = grown(topics, chunks, [list(chain(*pieces))])
    assert grown(topics, chunks, pieces) == pytest.approx(whole, abs=1e-9)


def test_an_empty_text_is_like_nothing(topics: Topics) -> None:
    chunks = database()
    for pieces in ([], [[]], [[], []]):
        assert grown(topics, chunks, pieces).tolist() == [0] * chunks.num_documents


def test_tokens_outside_of_the_vocabulary_are_passed_over(topics: Topics) -> None:
    chunks = database()
    odd = grown(topics, chunks, [[-1, 3, chunks.vocab_size, 5]])
    assert odd == pytest.approx(grown(topics, chunks, [[3, 5]]))


def test_a_word_of_every_document_says_nothing(tmp_path: Path) -> None:
    chunks = SmallDatabase([[1, 1], [1], [1, 2, 1]])
    found = Topics(built(tmp_path, chunks).path)
    assert grown(found, chunks, [[1, 1, 1]]).tolist() == [0, 0, 0]
    assert grown(found, chunks, [[1, 2]]) == pytest.approx([0, 0, 1])


def test_blocks_change_no_byte(tmp_path: Path) -> None:
    chunks = database()
    whole, blocks = built(tmp_path / "whole", chunks), built(tmp_path / "blocks", chunks, 1)
    searched = np.unique(chunks.document[chunks.searched])
    assert whole.stats == blocks.stats
    assert whole.stats["documents"] == len(searched)
    for name in ("start.npy", "document.npy", "weight.npy", "idf.npy"):
        assert whole.file(name).read_bytes() == blocks.file(name).read_bytes()


def test_the_key_holds_the_chunks() -> None:
    keys = {topics_stage(Stage("chunks", version, {}, {})).key for version in (1, 2)}
    assert len(keys) == 2

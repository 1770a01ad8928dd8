"""What every retriever, embedder and reader keeps, as classes of tests for any of them.

A subclass named `Test...` with the fixture of its contract runs the tests on one part.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import pytest

from retro_lab.config.schema import SPLITS, OnError
from retro_lab.retrieval.base import Queries, Retriever, chunk_queries, text_tokens
from retro_lab.retrieval.embed.embedders import Embedder, Embeddings
from retro_lab.retrieval.filters.exclusion import search_filled
from retro_lab.text.readers import Document, Malformed, Reader

from .small_world import SmallChunks, bag_of_words, small_chunks

_TEXTS = ["one two three", "", "two  three", "ünïcode — 漢字", "one two three", "a" * 5000]


class Search(NamedTuple):
    """A retriever under test.

    Attributes:
        new: returns an empty one.
        load: opens the one saved in a folder.
        shared: one that is built; tests only search it.
    """

    new: Callable[[], Retriever]
    load: Callable[[Path], Retriever]
    shared: Retriever

    @classmethod
    def of(cls, new: Callable[[], Retriever], load: Callable[[Path], Retriever]) -> Search:
        """The retriever with a shared one, built over `world`."""
        return cls(new, load, built(new))


@cache
def world() -> tuple[SmallChunks, Embeddings]:
    """About a thousand chunks with vectors, and neighbours that came with them."""
    chunks = small_chunks()
    rng, trained = np.random.default_rng(2), np.flatnonzero(chunks.split == 0)
    brought = [rng.permutation(trained)[:60] for _ in range(chunks.num_chunks)]
    chunks.neighbours = np.array(brought, np.int32)
    chunks.neighbours[:, 5] = chunks.neighbours[:, 2]  # as a damaged dataset may
    return chunks, bag_of_words(chunks)


@cache
def queries() -> Queries:
    """Every chunk of `world` as a query."""
    chunks, embeddings = world()
    ids = np.arange(chunks.num_chunks)
    return chunk_queries(chunks, embeddings, ids, lambda ids: chunks.texts(ids, chunks.corpus))


def built(new: Callable[[], Retriever]) -> Retriever:
    """A retriever that has indexed `world`."""
    chunks, embeddings = world()
    ids, retriever = chunks.searched, new()
    tokens = text_tokens(chunks.tokens[ids], chunks.pad_id, chunks.boundary_id)
    retriever.build(ids, tokens, embeddings.of(ids) if retriever.needs_embeddings else None)
    return retriever


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, which holds some."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class RetrieverContract:
    """Tests with the fixture `search`, a `Search`.

    Candidates come best first, ties by ascending id, -1 only at the end; they don't depend on the
    batch or on threads; saving and loading changes nothing; equal builds are equal bytes.
    """

    def test_candidates_are_in_order_distinct_and_from_the_database(self, search: Search) -> None:
        found = search.shared.candidates(queries(), 30)
        assert found.ids.shape == found.scores.shape == (len(queries().document), 30)
        assert found.ids.dtype == np.int64
        assert found.scores.dtype == np.float32
        here = found.ids >= 0
        assert np.isin(found.ids[here], world()[0].searched).all()
        assert (here[:, :-1] >= here[:, 1:]).all()
        assert np.isneginf(found.scores[~here]).all()
        assert np.isfinite(found.scores[here]).all()
        follows = here[:, 1:]
        better, worse = found.scores[:, :-1], found.scores[:, 1:]
        assert (better >= worse)[follows].all()
        ascending = found.ids[:, :-1] < found.ids[:, 1:]
        assert ascending[follows & (better == worse)].all()
        assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found.ids)

    def test_a_query_finds_the_same_alone_and_in_any_batch(self, search: Search) -> None:
        retriever, every = search.shared, queries()
        whole = retriever.candidates(every, 20)
        reverse = retriever.candidates(every.take(slice(None, None, -1)), 20)
        np.testing.assert_array_equal(reverse.ids[::-1], whole.ids)
        np.testing.assert_array_equal(reverse.scores[::-1], whole.scores)
        for row in (0, 7, 500):
            alone = retriever.candidates(every.take(slice(row, row + 1)), 20)
            np.testing.assert_array_equal(alone.ids[0], whole.ids[row])
            np.testing.assert_array_equal(alone.scores[0], whole.scores[row])

    def test_saving_and_loading_changes_nothing(self, search: Search, tmp_path: Path) -> None:
        search.shared.save(tmp_path)
        loaded = search.load(tmp_path)
        before, after = (r.candidates(queries(), 20) for r in (search.shared, loaded))
        np.testing.assert_array_equal(after.ids, before.ids)
        np.testing.assert_array_equal(after.scores, before.scores)

    def test_equal_builds_are_equal_bytes_whatever_the_threads(
        self, search: Search, tmp_path: Path
    ) -> None:
        threads, files = faiss.omp_get_max_threads(), []
        try:
            for count in (1, 2):
                faiss.omp_set_num_threads(count)
                folder = tmp_path / str(count)
                folder.mkdir()
                built(search.new).save(folder)
                files.append(contents(folder))
        finally:
            faiss.omp_set_num_threads(threads)
        assert files[0] == files[1]

    def test_more_neighbours_than_the_database_holds_end_in_missing(self, search: Search) -> None:
        size = len(world()[0].searched)
        found = search.shared.candidates(queries().take(slice(0, 40)), size + 50)
        assert found.ids.shape == (40, size + 50)
        assert (found.ids[:, size:] == -1).all()
        assert (found.ids[:, 0] >= 0).any()

    def test_a_longer_list_of_an_exact_search_begins_with_the_shorter(self, search: Search) -> None:
        if not search.shared.exact:
            pytest.skip("an approximate search may look elsewhere for more")
        short, long = (search.shared.candidates(queries(), k) for k in (3, 40))
        np.testing.assert_array_equal(long.ids[:, :3], short.ids)

    def test_filled_search_never_returns_the_own_document(self, search: Search) -> None:
        chunks, _ = world()
        found = search_filled(search.shared, queries(), 16, chunks.document)
        own = chunks.document[found.ids] == queries().document[:, None]
        assert not (own & (found.ids >= 0)).any()
        enough = (found.ids >= 0).mean()
        assert enough > 0.95, enough


class EmbedderContract:
    """Tests with the fixture `embedder`: a text has one finite vector, whatever its batch."""

    def test_every_text_has_a_finite_vector(self, embedder: Embedder) -> None:
        for side in filter(None, (embedder, embedder.query)):
            found = side.embed(_TEXTS)
            assert found.shape == (len(_TEXTS), embedder.dim)
            assert found.dtype == np.float32
            assert np.isfinite(found.astype(np.float16)).all()  # as vectors are stored

    def test_a_text_has_the_same_vector_alone_and_in_any_batch(self, embedder: Embedder) -> None:
        for side in filter(None, (embedder, embedder.query)):
            whole = side.embed(_TEXTS)
            np.testing.assert_array_equal(whole[4], whole[0])
            for batch in (_TEXTS[::-1], *([text] for text in _TEXTS)):
                rows = [_TEXTS.index(text) for text in batch]
                np.testing.assert_allclose(side.embed(batch), whole[rows], rtol=0, atol=2e-6)

    def test_different_texts_have_different_vectors(self, embedder: Embedder) -> None:
        one, other = embedder.embed(["one two three", "ünïcode — 漢字"])
        assert (one != other).any()


class ReaderContract:
    """Tests with the fixture `reader`: the same documents each time, with unique ids."""

    def test_every_reading_gives_the_same_documents(self, reader: Reader) -> None:
        first = _read(reader)
        assert first == _read(reader)
        assert any(document.text for document in first)

    def test_ids_are_unique_and_texts_can_be_stored(self, reader: Reader) -> None:
        found = _read(reader)
        assert len({document.id for document in found}) == len(found)
        for document in found:
            assert isinstance(document.id, str)
            document.text.encode("utf-8")
            assert document.split in (None, *SPLITS)
            assert document.place

    def test_inputs_have_digests_that_stay(self, reader: Reader) -> None:
        digests = reader.input_digest()
        assert digests
        assert digests == reader.input_digest()
        assert all(isinstance(x, str) for pair in digests.items() for x in pair)


def _read(reader: Reader) -> list[Document]:
    return list(reader.documents(Malformed(OnError.stop)))

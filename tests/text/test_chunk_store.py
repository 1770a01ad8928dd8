"""Contract: chunks hold every token and byte of every document once and never span two of them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_builders import built_chunks, built_tokenizer, small_bpe, stored_corpus, workspace

from retro_lab.config.schema import ByteTokenizerConfig, ChunkingConfig
from retro_lab.store import ArtifactStore, Stage, Workspace
from retro_lab.text.chunks import ChunkStore, build_chunks, chunks_stage
from retro_lab.text.corpus import SPLITS

TEXTS = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chunks")


@pytest.fixture(scope="module", params=["byte", "bpe"])
def tokenizer(request, folder):
    if request.param == "bpe":
        return small_bpe(folder)
    return built_tokenizer(ByteTokenizerConfig(), stored_corpus(["x"], folder), folder)


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, chunk_size=st.integers(1, 9), block=st.sampled_from([1, 2, None]))
def test_alignment(tokenizer, folder, texts, chunk_size, block):
    corpus = stored_corpus(texts, folder)
    store, stats = built_chunks(corpus, tokenizer, chunk_size, folder, largest_block=block)

    assert store.tokens.shape == store.token_bytes.shape == (store.num_chunks, chunk_size)
    assert store.num_documents == len(texts)
    assert store.first_chunk[-1] == store.num_chunks
    for d, text in enumerate(texts):
        mine = np.arange(store.first_chunk[d], store.first_chunk[d + 1])
        assert store.document[mine].tolist() == [d] * len(mine)
        assert store.index[mine].tolist() == list(range(len(mine)))
        assert store.split[mine].tolist() == [corpus.split[d]] * len(mine)
        tokens, num_bytes = store.tokens[mine].ravel(), store.token_bytes[mine].ravel()
        ids = tokenizer.encode_batch([text])[0].ids
        padding = len(tokens) - 1 - len(ids)
        assert tokens.tolist() == [store.boundary_id, *ids, *[store.pad_id] * padding]
        assert padding < chunk_size
        assert tokenizer.decode(ids) == text
        assert num_bytes.sum() == len(text.encode())
        assert num_bytes[0] == 0
        assert not num_bytes[len(ids) + 1 :].any()
        spans = [store.text_span(c) for c in mine]
        assert b"".join(corpus.raw_span(*span) for span in spans) == text.encode()

    for split in SPLITS:
        mine = store.chunks_of(split)
        assert store.token_bytes[mine].sum() == corpus.num_bytes(split)
        special = (store.tokens[mine] == store.pad_id) | (store.tokens[mine] == store.boundary_id)
        assert stats["splits"][split] == {
            "documents": len(corpus.documents_of(split)),
            "chunks": len(mine),
            "tokens": int((~special).sum()),
            "bytes": corpus.num_bytes(split),
        }
    assert stats["documents"] == len(texts)
    assert stats["chunks"] == store.num_chunks
    assert stats["bytes"] == corpus.num_bytes()


def naive_values(store, ids, continuation):
    rows = []
    for c in ids:
        row = []
        for step in range(1 + continuation):
            inside = c >= 0 and c + step < store.num_chunks
            if inside and store.document[c + step] == store.document[c]:
                row += store.tokens[c + step].tolist()
            else:
                row += [store.pad_id] * store.chunk_size
        rows.append(row)
    return rows


@settings(max_examples=60, deadline=None)
@given(
    texts=TEXTS,
    chunk_size=st.integers(1, 6),
    continuation=st.integers(0, 3),
    gathered=st.sampled_from([1, 20, 2**17]),
)
def test_values_equal_a_loop(tokenizer, folder, texts, chunk_size, continuation, gathered):
    store, _ = built_chunks(stored_corpus(texts, folder), tokenizer, chunk_size, folder)
    ids = np.arange(-1, store.num_chunks)
    values = store.values(ids, continuation, at_once=gathered)
    assert values.dtype == np.int64
    assert values.tolist() == naive_values(store, ids, continuation)


def test_values_keep_the_shape_of_ids(folder, tokenizer):
    store, _ = built_chunks(stored_corpus(["abcdefg"], folder), tokenizer, 2, folder)
    assert store.values(np.full((2, 3, 4), -1), 1).shape == (2, 3, 4, 4)
    assert (store.values(np.full((2, 3), -1), 1) == store.pad_id).all()
    assert store.values(np.empty((0, 2), np.int64), 1).shape == (0, 2, 4)
    assert store.values(0, 1).shape == (4,)
    with pytest.raises(IndexError):
        store.values([store.num_chunks], 0)


def test_texts_of_chunks_inside_a_character(folder):
    byte = built_tokenizer(ByteTokenizerConfig(), stored_corpus(["x"], folder), folder)
    corpus = stored_corpus(["abé", "zz"], folder)
    store, _ = built_chunks(corpus, byte, 4, folder)
    assert store.texts([0, 1, 2], corpus) == ["ab\ufffd", "\ufffd", "zz"]
    assert store.texts([], corpus) == []


def test_dtype_follows_the_vocabulary(folder, tokenizer):
    corpus = stored_corpus(["some text"], folder)

    def dtype(vocab_size):
        class Wide:
            boundary_id, pad_id = vocab_size - 2, vocab_size - 1
            encode_batch = staticmethod(tokenizer.encode_batch)

        Wide.vocab_size = vocab_size
        store, _ = built_chunks(corpus, Wide(), 4, folder)
        assert store.tokens[0, 0] == vocab_size - 2
        assert store.tokens[-1, -1] in (
            vocab_size - 1,
            tokenizer.encode_batch(["some text"])[0].ids[-1],
        )
        return store.tokens.dtype

    assert dtype(65_535) == np.uint16
    assert dtype(65_536) == np.int32


def test_tokenizer_that_loses_bytes_is_refused(folder, tokenizer):
    class Lossy:
        vocab_size, boundary_id, pad_id = (
            tokenizer.vocab_size,
            tokenizer.boundary_id,
            tokenizer.pad_id,
        )

        def encode_batch(self, texts):
            return [type(e)(e.ids[1:], e.num_bytes[1:]) for e in tokenizer.encode_batch(texts)]

    with pytest.raises(ValueError, match="document 0: tokens account for"):
        built_chunks(stored_corpus(["some text"], folder), Lossy(), 4, folder)


def test_interrupted_build_resumes_to_the_same_bytes(folder, tokenizer):
    corpus = stored_corpus([f"document {i} " * (i + 1) for i in range(9)], folder)
    whole, _ = built_chunks(corpus, tokenizer, 4, folder)
    encoded = 0

    class Failing:
        vocab_size, boundary_id, pad_id = (
            tokenizer.vocab_size,
            tokenizer.boundary_id,
            tokenizer.pad_id,
        )
        fail_at = 5

        def encode_batch(self, texts):
            nonlocal encoded
            encoded += len(texts)
            if encoded > self.fail_at:
                raise KeyboardInterrupt
            return tokenizer.encode_batch(texts)

    place = workspace(folder, largest_block=1)
    failing = Failing()
    with pytest.raises(KeyboardInterrupt):
        build_chunks(4, corpus, failing, place)
    failing.fail_at, encoded = 99, 0
    build_chunks(4, corpus, failing, Workspace(place.path, largest_block=1))
    assert 0 < encoded < 9
    files = [file for file in whole.path.iterdir() if file.is_file()]
    assert len(files) == 8
    for file in files:
        assert (place.path / file.name).read_bytes() == file.read_bytes()


def test_processes_share_it_by_path(folder, tokenizer):
    store, _ = built_chunks(stored_corpus(["some text"] * 500, folder), tokenizer, 4, folder)
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert (pickle.loads(data).tokens == store.tokens).all()
    assert not store.tokens.flags.writeable


def test_key_holds_the_chunk_size_and_the_parents(folder, tokenizer):
    parents = [Stage("corpus", 1, {}, {}), Stage("tokenizer", 1, {}, {})]
    stage = chunks_stage(ChunkingConfig(chunk_size=8), *parents)
    assert dict(stage.fields) == {"chunk_size": 8}
    assert set(stage.parents) == {"corpus", "tokenizer"}
    same = ChunkingConfig(chunk_size=8, continuation_chunks=3, sequence_length=16)
    assert chunks_stage(same, *parents).key == stage.key
    assert chunks_stage(ChunkingConfig(chunk_size=4), *parents).key != stage.key

    corpus = stored_corpus(["some text"], folder)
    store = ArtifactStore(folder / "store")
    artifact = store.build(stage, lambda place: build_chunks(8, corpus, tokenizer, place))
    assert ChunkStore.open(artifact.path).chunk_size == 8

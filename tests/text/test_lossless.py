"""Contract: whatever a Hugging Face tokenizer loses by itself, its tokens here bring back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy_tokenizers import (
    END,
    SPECIAL,
    UNKNOWN,
    byte_fallback,
    byte_level,
    unigram,
    word_level,
    word_piece,
)
from text_builders import built_chunks, stored_corpus
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from retro_lab.config.errors import UserError
from retro_lab.retrieval.base import text_tokens
from retro_lab.text.runs import pair_runs
from retro_lab.text.tokenizers.base import LosesText
from retro_lab.text.tokenizers.huggingface import HuggingFaceTokenizer, Source

LOSSY = {"unigram": unigram(), "word_piece": word_piece(), "word_level": word_level()}
EXACT = {
    "byte_level": byte_level(),
    "prefix_space": byte_level(prefix_space=True),
    "byte_fallback": byte_fallback(),
}
ALL = LOSSY | EXACT
TEXTS = [
    "",
    "   ",
    "\n\n",
    "the cat",
    " The  CAT\nthe cats, (café) don't\t",
    "naïve e\u0301 東京 the",
    "a</s>b <unk> </s>",
    "x" * 300 + " " + "é" * 300,
]
PIECES = st.lists(st.sampled_from(["the", " ", "\n", "Cat", "é", "e\u0301", "東", ",", *SPECIAL]))
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\u2581")
ANY_TEXT = st.text(CHARACTERS) | PIECES.map("".join)


@pytest.fixture(params=list(ALL))
def tokenizer(request: pytest.FixtureRequest) -> HuggingFaceTokenizer:
    return ALL[request.param]


def check(tokenizer: HuggingFaceTokenizer, texts: list[str]) -> None:
    for text, (ids, num_bytes) in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
        assert num_bytes.sum() == len(text.encode())
        assert not np.isin(ids, [END, UNKNOWN, tokenizer.pad_id]).any()
        assert ((ids >= 0) & (ids < tokenizer.vocab_size)).all()


def test_every_text_comes_back_and_no_special_token_is_read_out_of_it(
    tokenizer: HuggingFaceTokenizer,
) -> None:
    check(tokenizer, TEXTS)
    check(pickle.loads(pickle.dumps(tokenizer)), TEXTS)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(ANY_TEXT, max_size=4))
def test_any_text_comes_back(name: str, texts: list[str]) -> None:
    check(ALL[name], texts)


def test_only_a_tokenizer_that_loses_text_gets_byte_tokens() -> None:
    for tokenizer in LOSSY.values():
        assert tokenizer.vocab_size == tokenizer.pad_id + 1 + 256
    for tokenizer in EXACT.values():
        assert tokenizer.vocab_size == tokenizer.pad_id + 1


def test_what_a_tokenizer_knows_stays_in_its_own_tokens() -> None:
    tokenizer = unigram()
    the = tokenizer.encode_batch(["the"])[0].ids.tolist()
    assert len(the) == 1
    [(ids, num_bytes)] = tokenizer.encode_batch(["the the\nthe é"])
    gap, blank, *letter = (tokenizer.pad_id + 1 + byte for byte in "\n é".encode())
    assert ids.tolist() == [*the, *the, gap, *the, blank, *letter]
    assert num_bytes.tolist() == [4, 3, 1, 3, 1, 0, 2]


def test_text_that_a_tokenizer_brings_back_gets_the_tokens_that_it_gets_elsewhere() -> None:
    text = "the caf\u00e9 東京\n"
    for tokenizer in (byte_level(), byte_fallback()):
        elsewhere = Backend.from_str(tokenizer.definition).encode(text).ids
        assert tokenizer.encode_batch([text])[0].ids.tolist() == elsewhere


def test_stages_of_lossy_tokenizers_are_cut_anew_and_all_others_found_again() -> None:
    mended = {name: Source(t.definition, END).mended for name, t in ALL.items()}
    assert [name for name, is_mended in mended.items() if not is_mended] == [
        "byte_level",
        "byte_fallback",
    ]


def test_a_unigram_tokenizer_that_reads_an_end_token_out_of_text_is_cut_anew() -> None:
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    model = models.Unigram([(name, 0.0) for name in names], unk_id=UNKNOWN, byte_fallback=True)
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.Split("x", "isolated")
    backend.decoder = decoders.ByteFallback()
    tokenizer = HuggingFaceTokenizer(backend, END)
    assert tokenizer.vocab_size == tokenizer.pad_id + 1
    assert tokenizer.decode(tokenizer.encode_batch(["a</s>"])[0].ids) == "a</s>"
    assert Source(tokenizer.definition, END).mended


def test_a_document_that_even_so_is_lost_is_named(tmp_path) -> None:
    tokenizer = byte_fallback()  # writes U+2581 for a blank, so a real one comes back as one
    with pytest.raises(LosesText, match=r"loses text: 'a▁b' comes back as 'a b'") as caught:
        tokenizer.encode_batch(["fine", "a\u2581b"])
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message
    corpus = stored_corpus(["abc", "abd", "a\u2581b", "x"], tmp_path)
    with pytest.raises(UserError, match=r"document 'd2': the tokenizer loses text"):
        built_chunks(corpus, tokenizer, 8, tmp_path)


def test_chunks_count_the_bytes_that_are_spelt(tmp_path) -> None:
    corpus = stored_corpus(["the the", "é", "the\nthe", "TH", "the", "   "], tmp_path)
    tokenizer = unigram()
    store, stats = built_chunks(corpus, tokenizer, 4, tmp_path)
    spelt = {split: counts["spelt"] for split, counts in stats["splits"].items()}
    assert spelt == {"train": 2, "validation": 2, "test": 4}
    assert stats["spelt"] == 8
    assert (store.tokens != tokenizer.pad_id).sum() - corpus.num_documents == stats["tokens"]
    _, plain = built_chunks(corpus, byte_level(), 4, tmp_path)
    assert "spelt" not in plain


def test_a_copy_that_spells_an_end_token_is_a_copy_token_for_token(tmp_path) -> None:
    text = "the </s> a</s>b <unk> x " * 4
    corpus = stored_corpus([text, text, "the"], tmp_path)
    store, _ = built_chunks(corpus, unigram(), 16, tmp_path)
    first, second = (store.tokens[store.document == d] for d in (0, 1))
    inside = [text_tokens(rows, store.pad_id, store.boundary_id)[1:-1] for rows in (first, second)]
    assert len(inside[0]) > 1
    assert (pair_runs(*inside) == store.chunk_size).all()


def test_random_letters_cost_what_they_hold(tmp_path) -> None:
    """Of letters drawn from 62, no code can spend less than log2(62) bits on one; as unknown
    tokens they cost nothing at all."""
    noise = np.random.default_rng(0).choice(list("ABCDEFGHIJ0123456789"), (6, 400))
    corpus = stored_corpus(["".join(row) for row in noise], tmp_path)
    tokenizer = unigram()
    store, _ = built_chunks(corpus, tokenizer, 16, tmp_path)
    text = store.tokens[store.token_bytes > 0]
    shares = np.bincount(text) / len(text)
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    assert len(text) == corpus.num_bytes()
    assert 4.2 < entropy < np.log2(20)

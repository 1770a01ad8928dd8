"""Contract: tokenizers are lossless, and the bytes of tokens sum to the bytes of the text."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_builders import built_tokenizer, small_bpe, stored_corpus, workspace
from tokenizers import Tokenizer as Backend
from tokenizers import models

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    BpeTokenizerConfig,
    ByteTokenizerConfig,
    HfTokenizerConfig,
    TokenizerConfig,
)
from retro_lab.store import Stage
from retro_lab.text.tokenizers import base, build_tokenizer, tokenizer_stage
from retro_lab.text.tokenizers.base import CutLimits
from retro_lab.text.tokenizers.bpe import FILE

CORPUS = Stage("corpus", 1, {}, {})
SPECIAL = ["<|endoftext|>", "<s> </s> [PAD] [CLS]", "a<|endoftext|>b", "<unk>"]
EXAMPLES = [
    "",
    "\0",
    "\r\n\r\n ",
    " \u2028\x85\x1c",
    "東京🏯é",
    "don't  stop\t\n  the cat",
    *SPECIAL,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizers")


@pytest.fixture(scope="module")
def hf_folder(folder):
    """A byte-level tokenizer in the Hugging Face format, with an end token."""
    from transformers import PreTrainedTokenizerFast

    corpus = stored_corpus(["the cat über 東京"] * 3, folder)
    place = workspace(folder)
    build_tokenizer(BpeTokenizerConfig(vocab_size=290), corpus, place)
    loaded = PreTrainedTokenizerFast(
        tokenizer_file=str(place.path / FILE), eos_token="<|endoftext|>", unk_token="<unk>"
    )
    loaded.save_pretrained(str(folder / "hf"))
    return folder / "hf"


@pytest.fixture(scope="module", params=["byte", "bpe", "hf"])
def tokenizer(request, folder):
    if request.param == "bpe":
        return small_bpe(folder)
    if request.param == "byte":
        return built_tokenizer(ByteTokenizerConfig(), stored_corpus(["x"], folder), folder)
    path = request.getfixturevalue("hf_folder")
    return built_tokenizer(HfTokenizerConfig(path=str(path)), stored_corpus(["x"], folder), folder)


def check_round_trip(tokenizer, texts, *limits):
    for text, encoded in zip(texts, tokenizer.encode_batch(texts, *limits), strict=True):
        assert encoded.ids.dtype == np.int32
        assert encoded.num_bytes.dtype == np.uint32
        assert encoded.ids.shape == encoded.num_bytes.shape
        assert tokenizer.decode(encoded.ids) == text
        assert encoded.num_bytes.sum() == len(text.encode())
        special = [tokenizer.boundary_id, tokenizer.pad_id]
        assert not np.isin(encoded.ids, special).any()
        assert ((encoded.ids >= 0) & (encoded.ids < tokenizer.vocab_size)).all()


def test_round_trip_of_oddities(tokenizer):
    check_round_trip(tokenizer, EXAMPLES)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text() | st.sampled_from(SPECIAL), max_size=4))
def test_round_trip_of_any_text(tokenizer, texts):
    check_round_trip(tokenizer, texts)


@settings(max_examples=80, deadline=None)
@given(text=st.text())
def test_bytes_are_exact_for_byte_level_tokens(folder_bpe, text):
    # Cut anywhere, the first tokens decode to exactly as many bytes as they account for.
    ids, num_bytes = folder_bpe.encode_batch([text])[0]
    raw, ends = text.encode(), np.cumsum(num_bytes)
    for i, end in enumerate(ends):
        assert folder_bpe.decode(ids[: i + 1]) == raw[:end].decode(errors="replace")


@pytest.fixture(scope="module")
def folder_bpe(folder):
    return small_bpe(folder)


def test_decode_leaves_boundary_and_padding_out(tokenizer):
    ids = tokenizer.encode_batch(["the cat"])[0].ids.tolist()
    assert tokenizer.decode([tokenizer.boundary_id, *ids, tokenizer.pad_id]) == "the cat"
    assert tokenizer.pad_id == tokenizer.vocab_size - 1


def test_text_stays_text_in_another_process(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    for ours, theirs in zip(
        tokenizer.encode_batch(SPECIAL), copy.encode_batch(SPECIAL), strict=True
    ):
        np.testing.assert_array_equal(ours.ids, theirs.ids)


def test_special_ids_are_the_last_two(folder):
    bpe = small_bpe(folder, vocab_size=280)
    assert (bpe.vocab_size, bpe.boundary_id, bpe.pad_id) == (280, 278, 279)
    small = small_bpe(folder, vocab_size=5000)  # more than so little text can give
    assert small.vocab_size < 400
    assert (small.boundary_id, small.pad_id) == (small.vocab_size - 2, small.vocab_size - 1)
    byte = built_tokenizer(ByteTokenizerConfig(), stored_corpus(["x"], folder), folder)
    assert (byte.vocab_size, byte.boundary_id, byte.pad_id) == (258, 256, 257)


def test_smallest_bpe_is_bytes(folder):
    check_round_trip(small_bpe(folder, vocab_size=258), EXAMPLES)


@pytest.mark.parametrize(
    "text", ["the cat\n\n  sat on 東京 \n" * 9, "word " * 30, "無" * 100, "\n" * 80]
)
@pytest.mark.parametrize("limit", [7, 16, 50])
def test_long_texts_are_cut_without_loss(folder_bpe, text, limit):
    whole = folder_bpe.encode_batch([text])[0]
    cut = list(base.pieces(text, limit))
    assert "".join(cut) == text
    assert max(map(len, cut)) <= limit
    limits = CutLimits(limit, 3 * limit)
    check_round_trip(folder_bpe, ["x", text, "", text], limits)
    if "\n  " in text and limit == 50:  # lines short enough to cut between
        assert folder_bpe.encode_batch([text], limits)[0].ids.tolist() == whole.ids.tolist()


def test_cuts_leave_words_and_gaps_whole(folder):
    gaps = "one\n\n\n\ntwo\n\n"
    corpus = stored_corpus([gaps * 5] * 3, folder)
    bpe = built_tokenizer(BpeTokenizerConfig(vocab_size=300), corpus, folder)
    whole = bpe.encode_batch([gaps * 20])[0].ids.tolist()
    assert len(whole) < 20 * len(gaps) / 2  # gaps of several line feeds are tokens
    for limit in range(10, 24):
        assert bpe.encode_batch([gaps * 20], CutLimits(limit))[0].ids.tolist() == whole


def test_cuts_do_not_move_the_bytes_of_hf_tokens(folder, hf_folder):
    corpus = stored_corpus(["x"], folder)
    tokenizer = built_tokenizer(HfTokenizerConfig(path=str(hf_folder)), corpus, folder)
    text = "über the cat\n東京\n" * 9
    whole = tokenizer.encode_batch([text])[0]
    cut = tokenizer.encode_batch(["x", text], CutLimits(20))[1]
    assert cut.ids.tolist() == whole.ids.tolist()
    assert cut.num_bytes.tolist() == whole.num_bytes.tolist()


@given(st.lists(st.integers(0, 9)), st.integers(1, 12))
def test_batches_cover_everything_within_the_limit(lengths, limit):
    parts = [lengths[part] for part in base.batches(lengths, limit)]
    assert [x for part in parts for x in part] == lengths
    assert all(sum(part) <= limit or len(part) == 1 for part in parts)


def test_bpe_learns_from_training_text_only(folder):
    texts = [
        "aaaa aaaa",
        "bbbb bbbb",
        "cccc cccc",
        "dddd dddd",
        "bbbb",
        "cccc",
    ]  # every third trains
    bpe = built_tokenizer(BpeTokenizerConfig(vocab_size=400), stored_corpus(texts, folder), folder)
    counts = {
        text: len(bpe.encode_batch([text])[0].ids) for text in ("aaaa", "bbbb", "cccc", "dddd")
    }
    assert counts == {"aaaa": 1, "bbbb": 4, "cccc": 4, "dddd": 1}
    # "aaaa " and the one "d" after it
    texts = ["aaaa dddd", "", "", "dddd"]
    config = BpeTokenizerConfig(vocab_size=400, max_train_bytes=6)
    bpe = built_tokenizer(config, stored_corpus(texts, folder), folder)
    assert len(bpe.encode_batch(["aaaa"])[0].ids) == 1
    assert len(bpe.encode_batch(["dddd"])[0].ids) == 4


def test_training_text_may_end_inside_a_character(folder):
    config = BpeTokenizerConfig(vocab_size=300, max_train_bytes=4)
    check_round_trip(built_tokenizer(config, stored_corpus(["無無無無"], folder), folder), EXAMPLES)


TRAIN = """
import sys
from pathlib import Path
from retro_lab.store import Workspace
from retro_lab.config.schema import BpeTokenizerConfig
from retro_lab.text.corpus import Corpus
from retro_lab.text.tokenizers import build_tokenizer
corpus, out = map(Path, sys.argv[1:])
build_tokenizer(BpeTokenizerConfig(vocab_size=400), Corpus.open(corpus), Workspace(out))
"""


def test_training_gives_the_same_bytes_in_every_process(folder, monkeypatch):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcd "), 300)) for _ in range(30)]  # full of ties
    corpus = stored_corpus(texts, folder)
    results = []
    for threads in ("1", "2"):
        monkeypatch.setenv("RAYON_NUM_THREADS", threads)
        out = folder / f"threads-{threads}"
        subprocess.run([sys.executable, "-c", TRAIN, str(corpus.path), str(out)], check=True)
        results.append((out / FILE).read_bytes())
    assert results[0] == results[1]


def hf_tokenizer(backend, tmp_path, **special):
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(
        str(tmp_path / "t")
    )
    config = HfTokenizerConfig(path=str(tmp_path / "t"))
    return built_tokenizer(config, stored_corpus(["x"], tmp_path), tmp_path)


def test_hf_tokenizer_without_a_boundary(tmp_path):
    with pytest.raises(UserError, match="has neither an end nor a begin token"):
        hf_tokenizer(Backend(models.WordLevel({"a": 0}, unk_token="a")), tmp_path)


def test_hf_tokenizer_that_is_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    config = HfTokenizerConfig(path=str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"tokenizer.path=.*empty: can't be loaded"):
        tokenizer_stage(config, CORPUS)


def test_keys(hf_folder):
    bpe = BpeTokenizerConfig()
    other_corpus = Stage("corpus", 1, {"other": 1}, {})
    configs = [
        (bpe, CORPUS),
        (bpe, other_corpus),
        (replace(bpe, vocab_size=300), CORPUS),
        (replace(bpe, max_train_bytes=9), CORPUS),
        (ByteTokenizerConfig(), CORPUS),
        (HfTokenizerConfig(path=str(hf_folder)), CORPUS),
    ]
    keys = [tokenizer_stage(*pair).key for pair in configs]
    assert len(set(keys)) == len(keys)
    # What isn't trained doesn't depend on the corpus, nor on what the option is called.
    for config, _ in configs[4:]:
        key = tokenizer_stage(config, CORPUS).key
        assert tokenizer_stage(replace(config, name="mine"), other_corpus).key == key


def test_unknown_kind():
    with pytest.raises(UserError, match="no tokenizer is registered for TokenizerConfig"):
        tokenizer_stage(TokenizerConfig(), CORPUS)

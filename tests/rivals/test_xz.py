"""Contract: xz's figure is the bits of the raw bytes that a document adds to the training text."""

from __future__ import annotations

import lzma
import math

import numpy as np
import pytest
from rival_text import SmallCorpus, small_store, subset_of

from retro_lab.evaluation.compressors import xz

RNG = np.random.default_rng(0)
TRAINING = bytes(RNG.integers(97, 123, 5000).tolist())


def compressed(data: bytes, size: int) -> int:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}]
    return len(lzma.compress(data, lzma.FORMAT_RAW, filters=filters))


def test_bits_are_what_the_whole_stream_grows_by() -> None:
    documents = [TRAINING[100:900], bytes(RNG.integers(97, 123, 800).tolist()), b"", b"abc"]
    bits = xz.document_bits(TRAINING, documents)
    size = len(TRAINING) + 800
    alone = compressed(TRAINING, size)
    expected = [8 * (compressed(TRAINING + document, size) - alone) for document in documents]
    assert bits.tolist() == expected
    assert bits[2] == 0


def test_a_copy_is_cheap_and_noise_costs_what_it_holds() -> None:
    noise = bytes(RNG.integers(97, 123, 800).tolist())
    copy, new = xz.document_bits(TRAINING, [TRAINING[1000:1800], noise])
    assert copy < 100
    assert new == pytest.approx(800 * math.log2(26), rel=0.06)


def test_documents_do_not_help_each_other() -> None:
    noise = bytes(RNG.integers(97, 123, 500).tolist())
    first, second = xz.document_bits(TRAINING, [noise, noise])
    assert first == second


def test_text_beyond_the_window_is_out_of_reach() -> None:
    early, late = xz.document_bits(TRAINING, [TRAINING[:400], TRAINING[-400:]], window=4096)
    assert late < 100
    assert early > 400 * 4


def test_nats_are_of_documents_alone() -> None:
    store = small_store()
    corpus = SmallCorpus(store)
    train, subset = subset_of(store, "train"), subset_of(store, "test")
    outcome = xz.score(corpus, train, subset)
    text = b"".join(corpus.raw(d) for d in train.documents.tolist())
    bits = xz.document_bits(text, [corpus.raw(d) for d in subset.documents.tolist()])
    assert np.allclose(outcome.document_nats, bits * math.log(2))
    assert outcome.chunk_nats is None

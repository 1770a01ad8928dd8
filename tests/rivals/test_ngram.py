"""Contract: the byte n-gram agrees with a plain recursion over dictionaries, its probabilities add
up to one at every place, documents do not teach each other, and bytes are those of the text."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rival_text import SmallCorpus, small_store, subset_of

from retro_lab.config.schema import NgramConfig
from retro_lab.evaluation.compressors import ngram
from retro_lab.evaluation.compressors.ngram import Text

texts = st.lists(st.binary(max_size=12).map(lambda b: bytes(x % 3 for x in b)), max_size=4)


def probability(counts: Counter, context: bytes, byte: int, order: int, discount: float) -> float:
    """Interpolated absolute discounting, straight from its definition."""
    if order < 0:
        return 1 / 256
    shorter = probability(counts, context, byte, order - 1, discount)
    if order > len(context):
        return shorter
    tail = context[len(context) - order :]
    seen = {b: counts[tail, b] for b in range(256) if counts[tail, b]}
    total = sum(seen.values())
    if not total:
        return shorter
    kept = max(seen.get(byte, 0) - discount, 0)
    return (kept + discount * len(seen) * shorter) / total


def count(document: bytes, order: int, weight: int = 1) -> Counter:
    counts: Counter = Counter()
    for at in range(len(document)):
        for length in range(min(order, at) + 1):
            counts[document[at - length : at], document[at]] += weight
    return counts


def nats_of(training, documents, order, discount, own_weight) -> np.ndarray:
    found = [ngram.counts(Text.of(training), Text.of(documents), n) for n in range(order + 1)]
    *_, nats = ngram.byte_nats(found, discount, own_weight)
    return nats


@settings(max_examples=40, deadline=None)
@given(texts, texts, st.integers(0, 4), st.sampled_from([0.5, 0.9, 1.0]), st.integers(1, 3))
def test_it_is_the_plain_recursion(training, documents, order, discount, own_weight) -> None:
    nats = nats_of(training, documents, order, discount, own_weight)
    known: Counter = Counter()
    for document in training:
        known.update(count(document, order))
    expected = []
    for document in documents:
        for at in range(len(document)):
            counts = known + count(document[:at], order, own_weight)
            p = probability(counts, document[:at], document[at], order, discount)
            expected.append(-math.log(p))
    assert np.allclose(nats, expected, rtol=1e-9)


def test_probabilities_add_up_to_one() -> None:
    """The last byte of a document takes each of its 256 values in turn."""
    training, start = [b"abracadabra", b"barabara"], b"abrabr"
    total = sum(
        math.exp(-nats_of(training, [start + bytes([last])], 7, 0.7, 3)[-1]) for last in range(256)
    )
    assert total == pytest.approx(1)


def test_the_longest_order_tells_long_contexts_apart() -> None:
    """Contexts of seven bytes that differ in their first."""
    training = [b"x1234567" + b"A", b"y1234567" + b"B", b"1234567A"]
    long = nats_of(training, [b"1234567A"], 7, 0.5, 1)[-1]
    other = nats_of(training, [b"1234567B"], 7, 0.5, 1)[-1]
    assert long < other


def test_documents_do_not_teach_each_other() -> None:
    document = b"an unusual sentence, twice"
    alone = nats_of([b"a"], [document], 5, 0.5, 1)
    twice = nats_of([b"a"], [document, document], 5, 0.5, 1)
    assert np.array_equal(twice[: len(document)], alone)
    assert np.array_equal(twice[len(document) :], alone)


def test_chunks_take_the_nats_of_their_own_bytes() -> None:
    store = small_store()
    corpus, subset = SmallCorpus(store), subset_of(store, "test")
    tuning = ngram.Tuning({"order": 2, "discount": 0.5, "own_weight": 1})
    outcome = ngram.score(corpus, subset_of(store, "train"), subset, tuning)
    texts = [corpus.raw(d) for d in subset.documents.tolist()]
    training = [corpus.raw(d) for d in subset_of(store, "train").documents.tolist()]
    nats = nats_of(training, texts, 2, 0.5, 1)
    assert len(nats) == subset.bytes.sum()
    assert outcome.chunk_nats is not None
    first = int(subset.bytes[0])
    assert outcome.chunk_nats[0] == pytest.approx(nats[:first].sum())
    assert outcome.chunk_nats[-1] == pytest.approx(nats[-int(subset.bytes[-1]) :].sum())
    lengths = np.cumsum([0] + [len(text) for text in texts])
    by_document = [nats[a:b].sum() for a, b in itertools.pairwise(lengths)]
    assert np.allclose(outcome.document_nats, by_document)


def test_every_byte_is_tried_at_sampled_places(monkeypatch: pytest.MonkeyPatch) -> None:
    store = small_store()
    corpus, subset = SmallCorpus(store), subset_of(store, "test")
    tuning = ngram.Tuning({"order": 3, "discount": 0.6, "own_weight": 4})
    train = subset_of(store, "train")
    found = ngram.score(corpus, train, subset, tuning).facts["distribution"]
    assert (found["places"], found["passed"]) == (2, True)
    assert found["total"] == pytest.approx(1)
    whole = ngram.byte_nats  # its probabilities are made a tenth larger
    monkeypatch.setattr(ngram, "byte_nats", lambda *a: (nats - 0.1 for nats in whole(*a)))
    found = ngram.score(corpus, train, subset, tuning).facts["distribution"]
    assert not found["passed"]
    assert found["total"] == pytest.approx(np.exp(0.1))


def test_tuning_reads_training_and_validation_text_alone() -> None:
    store = small_store()
    corpus = SmallCorpus(store, forbidden=subset_of(store, "test").documents.tolist())
    config = NgramConfig([1, 3], [0.5, 0.9], [1, 2])
    train, validation = (subset_of(store, split) for split in ("train", "validation"))
    tuning = ngram.tune(corpus, train, validation, config)
    assert len(tuning.trials) == 8
    for trial in tuning.trials:
        setting = {n: trial[n] for n in ("order", "discount", "own_weight")}
        outcome = ngram.score(corpus, train, validation, ngram.Tuning(setting))
        bits = outcome.document_nats.sum() / math.log(2) / validation.bytes.sum()
        assert trial["bits_per_byte"] == pytest.approx(bits, abs=1e-6)
    best = min(trial["bits_per_byte"] for trial in tuning.trials)
    assert best == next(
        t["bits_per_byte"] for t in tuning.trials if tuning.chosen.items() <= t.items()
    )

"""Contract: overlap is exact over block borders, copies are named, bpb(alpha) leaves them out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_texts import as_texts, sentences

from retro_lab.audit.overlap import CHUNK, SHORTEST, curve, overlap_of
from retro_lab.audit.scores import Scores, TokenScores
from retro_lab.audit.texts import Text


def longest(text: bytes, train: list[bytes]) -> int:
    """By trying every run."""
    found = 0
    for start in range(len(text)):
        while any(text[start : start + found + 1] in raw for raw in train) and (
            start + found < len(text)
        ):
            found += 1
    return found if found >= SHORTEST else 0


@pytest.mark.parametrize("at_once", [64, 300, 2**22])
def test_runs_are_those_of_a_search_for_every_run(at_once: int) -> None:
    texts = as_texts([s[:200] for s in sentences(4, 0)])
    train = [s.encode() for s in sentences(5, 1)]
    train += [b"? " + texts[1].raw[10:60] + b" !" + texts[2].raw[:40]]
    found = overlap_of(texts, train, 30, 0.5, at_once=at_once)
    assert [each.longest_run for each in found.documents] == [longest(t.raw, train) for t in texts]
    assert found.train_bytes == sum(map(len, train))
    assert found.documents[1].example.encode() in train[-1]


def test_a_copy_is_named_and_a_short_one_too() -> None:
    texts = as_texts([*sentences(4, 0), "a question of few words"])
    train = [b"before " + texts[2].raw + b" behind", texts[4].raw]
    assert len(texts[4].raw) < 100
    assert [each.id for each in overlap_of(texts, train, 100, 0.5).leaked] == ["d2", "d4"]


def test_a_run_does_not_cross_documents_of_the_training_text() -> None:
    texts = as_texts(sentences(1, 0))
    raw = texts[0].raw
    parted = overlap_of(texts, [raw[:30], raw[30:]], 100, 0.5)
    assert parted.documents[0].longest_run < len(raw)
    assert overlap_of(texts, [raw], 100, 0.5).documents[0].longest_run == min(len(raw), CHUNK)


def scored(text: Text, nats: float) -> TokenScores:
    places = np.arange(len(text.raw))
    return TokenScores(places, places + 1, np.full(len(places), nats))


def test_the_curve_leaves_copies_out() -> None:
    """Copied documents cost 1 nat a byte and the others 3; at alpha 1 both are in."""
    texts = as_texts(sentences(12, 0))
    copies = texts[:6]
    overlap = overlap_of(texts, [text.raw for text in copies], 50, 0.5)
    nats = [scored(text, 1.0 if text in copies else 3.0) for text in texts]
    points = {point.alpha: point for point in curve(texts, Scores(nats), overlap)}
    without, whole = points[0.875], points[1.0]
    assert without.bpb == pytest.approx(3 / math.log(2))
    assert without.documents == 6
    size = sum(len(text.raw) for text in texts)
    assert whole.bytes == size
    assert whole.bpb == pytest.approx(sum(n.nats.sum() for n in nats) / math.log(2) / size)
    assert whole.low is not None
    assert whole.high is not None
    assert whole.low < whole.bpb < whole.high


def test_without_a_training_text_there_is_one_point() -> None:
    texts = as_texts(sentences(2, 0))
    [point] = curve(texts, Scores([scored(text, 2.0) for text in texts]), None)
    assert (point.alpha, point.low) == (1.0, None)
    assert point.bpb == pytest.approx(2 / math.log(2))

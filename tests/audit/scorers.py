"""Scorers of bytes for the audit: honest ones, and one cheat of each kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from retro_lab.rivals.knn_lm import knn_log_probs, mixed_nats

VOCABULARY = 256
ORDER = 3  # longest context of the mixture
Row = tuple[int, int, float, int]


class Ngrams:
    """Counts of the bytes that follow each context."""

    def __init__(self) -> None:
        self.counts: dict[bytes, Counter[int]] = defaultdict(Counter)

    def add(self, raw: bytes, place: int) -> None:
        for length in range(min(ORDER, place) + 1):
            self.counts[raw[place - length : place]][raw[place]] += 1

    def probabilities(self, before: bytes) -> NDArray[np.float64]:
        """A mixture of all orders, each smoothed by the one below it."""
        found = np.full(VOCABULARY, 1 / VOCABULARY)
        for length in range(min(ORDER, len(before)) + 1):
            seen = self.counts.get(before[len(before) - length :], Counter())
            total = seen.total()
            found = found * 2 / (total + 2)
            for byte, count in seen.items():
                found[byte] += count / (total + 2)
        return found


class Honest:
    """An n-gram mixture that learns nothing."""

    training = "the cat sat on the mat and the dog sat on the log. "

    def __init__(self) -> None:
        self.ngrams = Ngrams()
        raw = self.training.encode()
        for place in range(len(raw)):
            self.ngrams.add(raw, place)

    def distribution(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        return np.log(self.ngrams.probabilities(bytes(tokens)))

    def score(self, text: str) -> list[Row]:
        raw = text.encode()
        logs = [self.distribution(raw[:place])[raw[place]] for place in range(len(raw))]
        return [(i, i + 1, -float(log), raw[i]) for i, log in enumerate(logs)]


class Unasked:
    """The same without a distribution."""

    def __init__(self) -> None:
        self.own = Honest()

    def score(self, text: str) -> list[Row]:
        return self.own.score(text)


class Learner(Honest):
    """Learns each byte after it has scored it, within a document and over documents."""

    def score(self, text: str) -> list[Row]:
        raw, rows = text.encode(), []
        for place in range(len(raw)):
            probability = self.ngrams.probabilities(raw[:place])[raw[place]]
            rows.append((place, place + 1, -float(np.log(probability)), raw[place]))
            self.ngrams.add(raw, place)
        return rows

    def distribution(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        raw, own = bytes(tokens), Learner.__new__(Learner)
        own.ngrams = Ngrams()
        own.ngrams.counts = defaultdict(
            Counter, {key: Counter(found) for key, found in self.ngrams.counts.items()}
        )
        own.score(raw.decode())
        return np.log(own.ngrams.probabilities(raw))


class KnnLm(Honest):
    """kNN-LM by this project's formula: neighbours are the places with the longest context."""

    def distribution(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        before, raw = bytes(tokens), self.training.encode()
        places = range(1, len(raw))
        shared = np.array([_common_end(before, raw[:place]) for place in places])
        nearest = np.argsort(-shared, kind="stable")[:8]
        distances = np.tile(10.0 - shared[nearest], (VOCABULARY, 1)).astype(np.float32)
        following = np.frombuffer(raw, np.uint8)[1:][nearest]
        hit = following[None] == np.arange(VOCABULARY)[:, None]
        nats = -np.log(self.ngrams.probabilities(before))
        return -mixed_nats(nats, knn_log_probs(distances, hit, 1.0), 0.25)


def _common_end(a: bytes, b: bytes) -> int:
    length = 0
    while length < min(len(a), len(b), 9) and a[-1 - length] == b[-1 - length]:
        length += 1
    return length


class Unnormalised(Honest):
    """A cache that is added to a distribution, which then sums to more than one."""

    def distribution(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        found = np.exp(super().distribution(tokens))
        for byte in set(tokens[-16:]):
            found[byte] += 0.5
        return np.log(np.minimum(found, 1.0))


class UnnormalisedUnasked(Unasked):
    def __init__(self) -> None:
        self.own = Unnormalised()


class LooksAhead(Honest):
    """Reads the byte after the one that it predicts."""

    def score(self, text: str) -> list[Row]:
        rows = super().score(text)
        follows = [*text.encode()[1:], 0]
        return [
            (a, b, nats * (0.5 if after in b" e" else 1), byte)
            for (a, b, nats, byte), after in zip(rows, follows, strict=True)
        ]


class LearnsFirst(Learner):
    """Learns each byte, and then scores it."""

    def score(self, text: str) -> list[Row]:
        raw, rows = text.encode(), []
        for place in range(len(raw)):
            self.ngrams.add(raw, place)
            probability = self.ngrams.probabilities(raw[:place])[raw[place]]
            rows.append((place, place + 1, -float(np.log(probability)), raw[place]))
        return rows

    def distribution(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        return Learner.distribution(self, tokens)  # type: ignore[arg-type]


class TwoPasses(Learner):
    """Learns a document in a first pass, and reports the scores of a second."""

    def score(self, text: str) -> list[Row]:
        super().score(text)
        return super().score(text)


class Remembers(Honest):
    """Keeps what any scorer of its kind was shown, so that the second time is better."""

    shown: ClassVar[Ngrams] = Ngrams()

    def __init__(self) -> None:
        self.ngrams = self.shown

    def score(self, text: str) -> list[Row]:
        rows, raw = super().score(text), text.encode()
        for place in range(len(raw)):
            self.shown.add(raw, place)
        return rows


class CountsTwice(Honest):
    """Gives every byte to two tokens, which halves the bits per byte of the sum."""

    def score(self, text: str) -> list[Row]:
        return [(max(a - 1, 0), b, nats, byte) for a, b, nats, byte in super().score(text)]


def letters(text: str) -> Iterator[tuple[int, int, float]]:
    """A scorer that is a function: all bytes are equally likely."""
    raw = text.encode()
    return ((i, i + 1, float(np.log(VOCABULARY))) for i in range(len(raw)))

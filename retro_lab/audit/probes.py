"""What a scorer answers when it is asked again, with other text, and for whole distributions.

A scorer that has seen nothing is taken through the documents in order. At a sample of documents it
is asked what if, on copies, and then scores the document as it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from retro_lab.store import track

from .scorer import Scorer, Subject, distribution, scored
from .scores import TokenScores
from .texts import Text

PLACES = 4
"""Places that are asked about in a document of the sample."""
ALTERNATIVES = 64
"""Most other tokens that are tried at a place, if there is no distribution."""
_BRANCHED = 4  # places at which they are tried


class Again(NamedTuple):
    """Tokens that were scored twice and must agree.

    Attributes:
        document: its id.
        compared: tokens of the same bytes and ids in both.
        expected: tokens that could have been compared.
        nats: float64 [compared], of the reported scores.
        again: float64 [compared], of the other scoring.
    """

    document: str
    compared: int
    expected: int
    nats: NDArray[np.float64]
    again: NDArray[np.float64]

    @property
    def worst(self) -> float:
        """The greatest difference in nats; 0 if nothing was compared."""
        same = self.nats == self.again  # also infinite ones
        gaps = np.abs(np.where(same, 0.0, self.nats) - np.where(same, 0.0, self.again))
        return float(gaps.max(initial=0.0))


class Asked(NamedTuple):
    """A distribution that was asked for.

    Attributes:
        document: id.
        place: number of the token in the document.
        log_total: logarithm of the sum of its probabilities; 0 if they sum to one.
        nats: of the token, as reported.
        asked: of the token, by the distribution; infinite if its id is not in it.
    """

    document: str
    place: int
    log_total: float
    nats: float
    asked: float


class Branched(NamedTuple):
    """Probabilities of different tokens after the same text, each from a scoring of its own.

    Attributes:
        document: id.
        place: number of the token in the document.
        tokens: how many different tokens.
        total: the sum of their probabilities, at most 1 for a distribution.
    """

    document: str
    place: int
    tokens: int
    total: float


@dataclass(frozen=True)
class Observed:
    """All answers.

    Attributes:
        repeated: documents scored again by a scorer in the same state.
        replaced: tokens before a place from which on all text was replaced.
        alone: tokens before a place at which the text was ended.
        asked: distributions.
        branched: tried only if there is no distribution.
    """

    repeated: list[Again] = field(default_factory=list)
    replaced: list[Again] = field(default_factory=list)
    alone: list[Again] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    branched: list[Branched] = field(default_factory=list)


def score_all(subject: Subject, texts: Sequence[Text]) -> list[TokenScores]:
    """One pass of a scorer that has seen nothing.

    Raises:
        UserError: as `scored`.
    """
    scorer, found = subject.fresh(), []
    with track(len(texts), f"scoring with {subject.name}", "documents") as advance:
        for text in texts:
            found.append(scored(scorer, text.text, subject.name))
            advance(1)
    return found


def observe(
    subject: Subject, texts: Sequence[Text], first: Sequence[TokenScores], sample: int
) -> Observed:
    """Asks a scorer about a sample of the documents.

    Args:
        first: the reported scores.
        sample: most documents that are asked about.

    Raises:
        UserError: as `scored` and `distribution`.
    """
    rng = np.random.default_rng(0)
    long = np.array([number for number, each in enumerate(first) if len(each.nats)], np.int64)
    chosen = set(rng.choice(long, min(sample, len(long)), replace=False).tolist())
    asking = _Asking(subject, Observed(), rng, _frequent(texts, first))
    state = subject.fresh()
    last = max(chosen, default=-1)
    with track(last + 1, f"asking {subject.name}", "documents") as advance:
        for number in range(last + 1):
            if number in chosen:
                asking.about(state, texts[number], first[number])
            if subject.learns or number in chosen:
                again = scored(state, texts[number].text, subject.name)
                repeated = _compared(texts[number], first[number], again, None)
                asking.observed.repeated.append(repeated)
            advance(1)
    return asking.observed


@dataclass(frozen=True)
class _Asking:
    """The questions about one document.

    Attributes:
        frequent: the commonest tokens of the text.
    """

    subject: Subject
    observed: Observed
    rng: np.random.Generator
    frequent: Sequence[bytes]

    def about(self, state: Scorer, text: Text, reported: TokenScores) -> None:
        """Asks a scorer in this state, which stays as it is."""
        if reported.ids is None:
            reported = scored(self.subject.copy(state), text.text, self.subject.name)
        if hasattr(state, "distribution") and reported.ids is not None:
            self._ask(self.subject.copy(state), text, reported, reported.ids)
        else:
            self._branch(state, text, reported)
        own = scored(self.subject.copy(state), text.text, self.subject.name)
        for place in self._places(text, own):
            cut = int(own.stop[place])
            head = text.raw[:cut].decode()
            for where, tail in (
                (self.observed.replaced, self._other(text, len(head))),
                (self.observed.alone, ""),
            ):
                again = scored(self.subject.copy(state), head + tail, self.subject.name)
                where.append(_compared(text, own, again, cut))

    def _ask(
        self, state: Scorer, text: Text, reported: TokenScores, ids: NDArray[np.int64]
    ) -> None:
        places = {0, *self.rng.choice(len(ids), min(PLACES, len(ids)), replace=False).tolist()}
        for place in sorted(places):
            logs = distribution(state, ids[:place].tolist(), self.subject.name)
            token = int(ids[place])
            asked = -float(logs[token]) if 0 <= token < len(logs) else np.inf
            self.observed.asked.append(
                Asked(
                    text.id,
                    place,
                    float(np.asarray(logsumexp(logs))),
                    float(reported.nats[place]),
                    asked,
                )
            )

    def _branch(self, state: Scorer, text: Text, reported: TokenScores) -> None:
        """Scores the text up to a token with other tokens in its place."""
        if len(self.observed.branched) >= _BRANCHED:
            return
        place = int(self.rng.integers(len(reported.nats)))
        start, stop = int(reported.start[place]), int(reported.stop[place])
        before, own = text.raw[:start], text.raw[start:stop]
        total, tokens = 0.0, 0
        for piece in dict.fromkeys([own, *self.frequent]):
            try:
                other = (before + piece).decode()
            except UnicodeDecodeError:  # a part of a character
                continue
            again = scored(self.subject.copy(state), other, self.subject.name)
            as_before = np.array_equal(again.stop[:place], reported.stop[:place])
            if piece and as_before and again.stop[place : place + 1] == start + len(piece):
                total += float(np.exp(-again.nats[place]))
                tokens += 1
        self.observed.branched.append(Branched(text.id, place, tokens, total))

    def _places(self, text: Text, reported: TokenScores) -> Iterator[int]:
        """Places whose tokens end between two characters, before the document's end."""
        ends = np.minimum(reported.stop, len(text.raw) - 1)
        whole = np.array([text.raw[end] & 0xC0 != 0x80 for end in ends.tolist()], bool)
        found = np.flatnonzero(whole & (reported.stop < len(text.raw)))
        yield from self.rng.choice(found, min(PLACES, len(found)), replace=False).tolist()

    def _other(self, text: Text, start: int) -> str:
        """As many characters as the text has from `start` on, drawn from it; the first differs."""
        tail = text.text[start:]
        letters = sorted(set(text.text))
        drawn = self.rng.integers(len(letters), size=len(tail))
        others = [letter for letter in letters if letter != tail[0]] or [
            "?" if tail[0] != "?" else "!"
        ]
        return others[int(drawn[0]) % len(others)] + "".join(letters[i] for i in drawn[1:])


def _compared(text: Text, reported: TokenScores, again: TokenScores, cut: int | None) -> Again:
    """The first tokens that both scorings have.

    Args:
        cut: compare tokens that end here or before; None compares all.
    """
    expected = len(reported.stop) if cut is None else int((reported.stop <= cut).sum())
    n = min(expected, len(again.stop))
    same = (reported.start[:n] == again.start[:n]) & (reported.stop[:n] == again.stop[:n])
    if reported.ids is not None and again.ids is not None:
        same &= reported.ids[:n] == again.ids[:n]
    count = n if same.all() else int(np.argmin(same))
    if cut is None:
        expected = max(expected, len(again.stop))
    return Again(text.id, count, expected, reported.nats[:count], again.nats[:count])


def _frequent(texts: Sequence[Text], first: Sequence[TokenScores]) -> list[bytes]:
    """The commonest tokens of the text, at most `ALTERNATIVES`."""
    counted: Counter[bytes] = Counter()
    for text, each in zip(texts, first, strict=True):
        spans = zip(each.start.tolist(), each.stop.tolist(), strict=True)
        counted.update(text.raw[start:stop] for start, stop in spans)
    return [piece for piece, _ in counted.most_common(ALTERNATIVES)]

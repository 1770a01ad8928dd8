"""Documents that begin alike: what their scores alone say of a scorer that does not learn.

After the same text a scorer has one distribution. The probabilities of different next tokens sum
to at most one, and the same token has the same score in every document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .probes import Branched
from .scores import Scores
from .texts import Text

_Token = tuple[bytes, int]


@dataclass(frozen=True)
class Branches:
    """What was found.

    Attributes:
        greatest: the tokens after the same text whose probabilities have the greatest sum; None if
            no two tokens follow the same text.
        repeated: how often one token follows the same text in two documents.
        spread: greatest difference between scores of the same token after the same text, in nats.
        worst: the document with this difference.
    """

    greatest: Branched | None
    repeated: int
    spread: float
    worst: str


def branches_of(texts: Sequence[Text], scores: Scores) -> Branches:
    """The sums and differences of all texts that several documents begin with."""
    greatest, repeated, spread, worst = None, 0, 0.0, ""
    for place, followers in _followers(texts, scores):
        total = 0.0
        for members in followers.values():
            nats = np.array([scores.documents[number].nats[place] for number in members])
            total += float(np.exp(-nats.max()))
            repeated += len(members) - 1
            if float(np.ptp(nats)) > spread:
                spread, worst = float(np.ptp(nats)), texts[members[0]].id
        first = next(iter(followers.values()))[0]
        if len(followers) > 1 and (greatest is None or total > greatest.total):
            greatest = Branched(texts[first].id, place, len(followers), total)
    return Branches(greatest, repeated, spread, worst)


def _followers(
    texts: Sequence[Text], scores: Scores
) -> Iterator[tuple[int, dict[_Token, list[int]]]]:
    """Place, and documents by their token there, of each text that several documents begin with."""
    alike, place = [list(range(len(texts)))], 0
    while alike:
        longer: list[list[int]] = []
        for group in alike:
            followers: dict[_Token, list[int]] = {}
            for number in group:
                each = scores.documents[number]
                if place < len(each.nats):
                    token = texts[number].raw[each.start[place] : each.stop[place]]
                    known = -1 if each.ids is None else int(each.ids[place])
                    followers.setdefault((token, known), []).append(number)
            if sum(map(len, followers.values())) > 1:
                yield place, followers
            longer += [members for members in followers.values() if len(members) > 1]
        alike, place = longer, place + 1

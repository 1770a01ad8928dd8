"""The checks of an audit: each asks one question, and answers with a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retro_lab.evaluation.measure.normalisation import farthest_from_one

from .branches import Branches
from .overlap import Overlap
from .probes import Again, Asked, Branched, Observed
from .scores import Scores
from .texts import Text

QUESTIONS = {
    "bytes": "Is every byte of the text scored once?",
    "normalised": "Do the probabilities of all tokens sum to one?",
    "causal": "Does a score stay when later text changes?",
    "before_learning": "Is nothing learned from a token before it is scored?",
    "one_pass": "Are the scores those of a first pass?",
    "overlap": "Is the text absent from the training text?",
}
"""By name of the check."""
_ASK = "give scorer=... or model=..., which can be asked"
_ASK_MORE = "a scorer with distribution(tokens) can be asked for more"


@dataclass(frozen=True)
class Check:
    """The answer to one question.

    Attributes:
        name: a key of `QUESTIONS`.
        passed: None if the question could not be asked, or not answered by what was given.
        figure: the number that decides; None without one.
        measures: what the figure is.
        words: one or two sentences.
    """

    name: str
    passed: bool | None
    figure: float | None
    measures: str
    words: str


def check_bytes(texts: Sequence[Text], scores: Scores) -> Check:
    """Whether the tokens' bytes are those of the text, each once."""
    never = twice = beyond = scored = 0
    wrong: list[str] = []
    for text, each in zip(texts, scores.documents, strict=True):
        size = len(text.raw)
        start, stop = np.clip(each.start, 0, size), np.clip(each.stop, 0, size)
        steps = np.bincount(start, minlength=size + 1) - np.bincount(stop, minlength=size + 1)
        depth = np.cumsum(steps)[:size]
        counts = int((depth < 1).sum()), int(np.maximum(depth - 1, 0).sum())
        outside = int((each.stop - each.start).sum() - (stop - start).sum())
        backwards = bool((each.stop < each.start).any() or (np.diff(each.start) < 0).any())
        never, twice, beyond = never + counts[0], twice + counts[1], beyond + outside
        scored += int((each.stop - each.start).sum())
        if any(counts) or outside or backwards:
            wrong.append(text.id)
    total = sum(len(text.raw) for text in texts)
    passed = not (wrong or scores.unknown or scores.misnamed)
    words = f"All {total:,} bytes of {len(texts):,} documents are scored once."
    if not passed:
        found = {
            "bytes are scored more than once": twice,
            "bytes are never scored": never,
            "bytes lie beyond the end of their document": beyond,
            "scores belong to documents that the text does not have": scores.unknown,
            "tokens are not what the text has at their place": scores.misnamed,
        }
        told = "; ".join(f"{count:,} {what}" for what, count in found.items() if count)
        words = f"{told or 'tokens are not in the order of the text'}."
        if wrong:
            words += f" {len(wrong):,} documents are affected, the first: {wrong[0]}."
    return Check("bytes", passed, scored / total, "bytes scored over bytes of the text", words)


def check_normalised(
    scores: Scores, branches: Branches | None, seen: Observed | None, tolerance: float
) -> Check:
    """Whether probabilities sum to one over the vocabulary, or at least to no more."""
    over = sum(int((each.nats < -tolerance).sum()) for each in scores.documents)
    if over:
        least = min(float(each.nats.min(initial=0)) for each in scores.documents)
        words = f"{over:,} tokens have a probability above one."
        return Check("normalised", False, math.exp(-least), "the greatest probability", words)
    if seen is not None and seen.asked:
        return _sums(seen.asked, tolerance)
    tried = [*_tried(branches), *(seen.branched if seen is not None else [])]
    if not tried:
        words = f"Scores alone don't bound the sum here; {_ASK}."
        return Check("normalised", None, None, "", words)
    worst = max(tried, key=lambda each: each.total)
    many = worst.total > 1 + tolerance
    words = (
        f"{worst.tokens} different tokens after the same text ({worst.document}, token "
        f"{worst.place}) have probabilities that sum to {worst.total:.4f}."
    )
    if not many:
        words += f" No sum is above one, which is a bound and no proof; {_ASK_MORE}."
    return Check("normalised", False if many else None, worst.total, "the greatest sum", words)


def check_causal(branches: Branches | None, seen: Observed | None, tolerance: float) -> Check:
    """Whether scores before a place stay when all text from there on is replaced."""
    if seen is not None:
        words = f"Text behind {len(seen.replaced):,} places was replaced."
        return _agreeing("causal", words, seen.replaced, tolerance)
    if branches is None or not branches.repeated:
        words = f"Scores alone don't show it here; {_ASK}."
        return Check("causal", None, None, "", words)
    stays = branches.spread <= tolerance
    words = f"{branches.repeated:,} times the same token follows the same text in two documents."
    if stays:
        words += " Their scores agree, which is a bound and no proof."
    else:
        words += f" In {branches.worst} its score differs, so more was read than the text before."
    measures = "greatest difference in nats"
    return Check("causal", None if stays else False, branches.spread, measures, words)


def check_before_learning(seen: Observed | None, tolerance: float) -> Check:
    """Whether tokens have the score that a distribution, asked before they are seen, gives them."""
    if seen is None or not seen.asked:
        words = f"There is no distribution to compare with; {_ASK_MORE}."
        return Check("before_learning", None, None, "", words)
    gaps = [0.0 if each.nats == each.asked else abs(each.nats - each.asked) for each in seen.asked]
    at = int(np.argmax(gaps))
    worst, passed = seen.asked[at], max(gaps) <= tolerance
    words = f"{len(gaps):,} scores were compared with what was predicted from the text before."
    if not passed:
        words += (
            f" Token {worst.place} of {worst.document} is scored {worst.nats:.4f} nats, and was "
            f"predicted with {worst.asked:.4f}."
        )
    return Check("before_learning", passed, max(gaps), "greatest difference in nats", words)


def check_one_pass(seen: Observed | None, tolerance: float, *, learns: bool) -> Check:
    """Whether a scorer that has seen nothing gives these scores, also if the text ends early."""
    if seen is None:
        return Check("one_pass", None, None, "", f"Scores alone don't show it; {_ASK}.")
    repeated = seen.repeated
    unequal = [each for each in repeated if each.compared < each.expected]
    if unequal:
        words = f"A fresh scorer cuts {unequal[0].document} into other tokens than were reported."
        return Check("one_pass", False, None, "", words)
    worst = max((each.worst for each in repeated), default=0.0)
    if worst > tolerance:
        first, again = (sum(float(nats.sum()) for nats in each) for each in _columns(repeated))
        words = (
            f"{len(repeated):,} documents were scored again by a fresh scorer: {again:,.1f} nats, "
            f"and {first:,.1f} are reported."
        )
        if not learns:
            words += " If it learns from what it has scored, say learns=on."
        return Check("one_pass", False, worst, "greatest difference in nats", words)
    words = (
        f"{len(repeated):,} documents were scored again by a fresh scorer, and ended early at "
        f"{len(seen.alone):,} places."
    )
    return _agreeing("one_pass", words, [*repeated, *seen.alone], tolerance)


def check_overlap(texts: Sequence[Text], overlap: Overlap | None) -> Check:
    """Whether no document stands in the training text."""
    if overlap is None:
        return Check("overlap", None, None, "", "Give the text trained on, train=...")
    leaked = overlap.leaked
    words = (
        f"{len(leaked):,} of {len(texts):,} documents have at least {overlap.least_share:.0%} of "
        f"their bytes in runs of {overlap.min_run} bytes or more that also stand in the training "
        f"text ({overlap.train_bytes:,} bytes)."
    )
    measures = "share of the text's bytes in such runs"
    return Check("overlap", not leaked, overlap.share, measures, words)


def _sums(asked: Sequence[Asked], tolerance: float) -> Check:
    at, total = farthest_from_one(np.array([each.log_total for each in asked]))
    worst = asked[at]
    passed = abs(worst.log_total) <= tolerance
    words = f"{len(asked):,} distributions were summed."
    if not passed:
        words += f" That of token {worst.place} of {worst.document} is the farthest from one."
    return Check("normalised", passed, total, "the sum farthest from one", words)


def _agreeing(name: str, words: str, pairs: Sequence[Again], tolerance: float) -> Check:
    """Passes if all compared tokens agree; asks nothing if there are none."""
    compared, expected = sum(p.compared for p in pairs), sum(p.expected for p in pairs)
    if not compared:
        return Check(name, None, None, "", f"{words} No token could be compared.")
    worst = max(pairs, key=lambda pair: pair.worst)
    passed = worst.worst <= tolerance
    words += f" {compared:,} scores were compared, of {expected:,} tokens before a change"
    words += ": all agree." if passed else f": in {worst.document} one differs."
    return Check(name, passed, worst.worst, "greatest difference in nats", words)


def _columns(pairs: Sequence[Again]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [pair.nats for pair in pairs], [pair.again for pair in pairs]


def _tried(branches: Branches | None) -> list[Branched]:
    return [] if branches is None or branches.greatest is None else [branches.greatest]

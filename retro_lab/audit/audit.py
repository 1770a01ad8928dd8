"""One audit: scores, all checks and the curve, as a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .branches import branches_of
from .checks import (
    Check,
    check_before_learning,
    check_bytes,
    check_causal,
    check_normalised,
    check_one_pass,
    check_overlap,
)
from .overlap import CurvePoint, DocumentOverlap, Overlap, curve, overlap_of
from .probes import Observed, observe, score_all
from .scorer import Subject
from .scores import Scores
from .texts import Text


@dataclass(frozen=True)
class Settings:
    """What decides about pass and fail.

    Attributes:
        learns: whether the scorer learns from the documents that it has scored.
        sample: most documents that a scorer is asked about.
        tolerance: greatest difference in nats, and of the logarithm of a sum, that passes.
        min_run: bytes of a run that counts as shared with the training text.
        leaked_share: share of a document's bytes in such runs from which on it counts as leaked.
    """

    learns: bool = False
    sample: int = 8
    tolerance: float = 1e-3
    min_run: int = 100
    leaked_share: float = 0.5


@dataclass(frozen=True)
class Audit:
    """The outcome.

    Attributes:
        subject: what was audited.
        text: the scored text, as it was given.
        documents: its documents.
        bytes: its bytes.
        tokens: scored tokens.
        nats: their sum; None if it is not finite.
        bpb: bits per byte of the text, from the bytes that it has; None if not finite.
        settings: of the checks.
        checks: in the order of `QUESTIONS`.
        curve: bpb(alpha); alpha 1 alone without a training text.
        leaked: the documents that stand in the training text; None without one.
    """

    subject: str
    text: str
    documents: int
    bytes: int
    tokens: int
    nats: float | None
    bpb: float | None
    settings: Settings
    checks: Sequence[Check]
    curve: Sequence[CurvePoint]
    leaked: Sequence[DocumentOverlap] | None

    @property
    def failed(self) -> bool:
        """Whether a check failed; one that could not be asked has not."""
        return any(check.passed is False for check in self.checks)


@dataclass(frozen=True)
class Given:
    """What is audited.

    Attributes:
        name: what it is called.
        text: where the text comes from.
        texts: the documents that were scored.
        scores: the reported scores; None takes those of the scorer's first pass.
        subject: the scorer; None if there are scores alone.
        train: the training text; None if it was not given.
    """

    name: str
    text: str
    texts: Sequence[Text]
    scores: Scores | None
    subject: Subject | None
    train: Iterable[bytes] | None


def audit(given: Given, settings: Settings) -> Audit:
    """Asks every question.

    Raises:
        UserError: the scorer does not keep to its contract, or a training text can't be read.
    """
    texts, subject, scores = given.texts, given.subject, given.scores
    if scores is None:
        assert subject is not None
        scores = Scores(score_all(subject, texts))
    seen = None
    if subject is not None:
        seen = observe(subject, texts, scores.documents, settings.sample)
    overlap = None
    if given.train is not None:
        overlap = overlap_of(texts, given.train, settings.min_run, settings.leaked_share)
    size, nats = sum(len(text.raw) for text in texts), scores.nats
    finite = math.isfinite(nats)
    return Audit(
        subject=given.name,
        text=given.text,
        documents=len(texts),
        bytes=size,
        tokens=sum(len(each.nats) for each in scores.documents),
        nats=nats if finite else None,
        bpb=nats / math.log(2) / size if finite else None,
        settings=settings,
        checks=_checks(texts, scores, seen, overlap, settings),
        curve=curve(texts, scores, overlap),
        leaked=None if overlap is None else overlap.leaked,
    )


def _checks(
    texts: Sequence[Text],
    scores: Scores,
    seen: Observed | None,
    overlap: Overlap | None,
    settings: Settings,
) -> list[Check]:
    """All checks; what scores alone say counts only if they are those of the text."""
    whole = check_bytes(texts, scores)
    learns, tolerance = settings.learns, settings.tolerance
    branches = branches_of(texts, scores) if whole.passed and not learns else None
    return [
        whole,
        check_normalised(scores, branches, seen, tolerance),
        check_causal(branches, seen, tolerance),
        check_before_learning(seen, tolerance),
        check_one_pass(seen, tolerance, learns=learns),
        check_overlap(texts, overlap),
    ]

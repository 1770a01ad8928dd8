"""The verdict on a run: what its paired intervals show, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ..measure.conditions import CONTROLS, label
from ..measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference, Leakage
from .verdict_words import (
    WITH_ARTICLE,
    compressors_in_words,
    copies_in_words,
    interval_in_words,
    pointer_in_words,
    seeds_in_words,
    support_in_words,
)

_RIVALS = ("plain", "random")  # conditions that RETRO[ON] has to beat
UNMOVED_BPB = 0.001  # smaller changes of the score count as no change


_SHORT = {True: "helps", False: "shows no gain", None: "was not judged"}


class Outcome(Enum):
    """Position of the interval of a bits-per-byte difference relative to zero."""

    better = "better"  # the whole interval is below zero
    worse = "worse"  # the whole interval is above zero
    unclear = "unclear"  # the interval contains zero
    unmeasured = "unmeasured"  # no such pair, no chunk, or too few documents for an interval


@dataclass(frozen=True)
class Finding:
    """One paired difference and its outcome; `difference` is None if not measured."""

    a: str
    b: str
    alpha: float
    outcome: Outcome
    difference: Difference | None


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run. False: not shown; None: not measured.

    Attributes:
        gate: copying has emerged: RETRO[ON] beats both its backbone and random neighbours, on all
            chunks.
        gain: retrieval helps: RETRO[ON] beats both the plain model and random neighbours, on all
            chunks. With a gate but no gain, training without retrieval is as good.
        gain_without_leakage: as `gain`, on chunks with r(C) <= 0.125.
        off_is_baseline: backbone and baseline have the same score, as with a frozen backbone.
        ignores_neighbours: random and shuffled neighbours, if scored, change the score by less than
            0.001 bits per byte, with intervals that contain zero.
        control_failed: the model does as well, or almost, with neighbours unrelated to the text; or
            these beat the plain model, so that a gain is not of retrieval alone.
        controls: sentences on these neighbours: the failures, else what was measured.
        findings: the differences that decide `gain` and `gain_without_leakage`.
        sentences: the verdict in words, most important first.
    """

    gate: bool | None
    gain: bool | None
    gain_without_leakage: bool | None
    off_is_baseline: bool | None
    ignores_neighbours: bool | None
    control_failed: bool | None
    controls: list[str]
    findings: list[Finding]
    sentences: list[str]


def verdict(
    leakage: Leakage,
    max_run: int | None = None,
    compressors: Mapping[str, float] | None = None,
) -> Verdict:
    """Judges a run by its differences at alpha = 1 and alpha = 0.125.

    Args:
        max_run: shortest run for which RETRO[filtered] replaces a neighbour.
        compressors: bits per byte of compressors on the same text.
    """
    everywhere = [_finding(leakage, "on", other, UNFILTERED) for other in _RIVALS]
    filtered = [_finding(leakage, "on", other, LEAK_FREE_ALPHA) for other in _RIVALS]
    off = _finding(leakage, "on", "off", UNFILTERED)
    gain, without = _all_better(everywhere), _all_better(filtered)
    gate = _all_better([off, everywhere[1]])
    same = _off_is_baseline(leakage.difference("off", "baseline", UNFILTERED))
    controls = [_finding(leakage, "on", other, UNFILTERED) for other in CONTROLS]
    ignores = _ignores_neighbours(controls)
    why = _reasons(filtered)
    if leakage.reference is None:
        why = "overlap was not measured"
    elif LEAK_FREE_ALPHA not in leakage.alphas:
        why = "no figure was asked for (eval.alphas)"
    sentences = [_headline(gain, everywhere), _headline_without_leakage(gain, without, why)]
    if gate and not gain:
        sentences.append(
            "Copying has emerged, since RETRO[ON] does better than its backbone and with random "
            f"neighbours, but it is no gain ({_figures(off)} against the backbone)."
        )
    if same is False:
        sentences.append(
            "The backbone is no longer the baseline: its own weights were trained with retrieval."
        )
    ignored, helped = [_ignored(controls)] if ignores else [], _with_random(leakage)
    sentences += ignored
    findings = everywhere + filtered
    sentences += copies_in_words(leakage)
    sentences += [_sentence(f) for f in findings if f.outcome is not Outcome.unmeasured]
    sentences += pointer_in_words(leakage) + helped
    if max_run is not None:
        sentences += _with_filtered(leakage, max_run)
    sentences += _with_oracle(leakage)
    sentences += compressors_in_words(leakage, compressors)
    if everywhere[0].difference is not None:
        sentences.append(seeds_in_words(everywhere[0].difference.documents))
    measured = [_sentence(c) for c in controls if c.outcome is not Outcome.unmeasured]
    failed = (ignored or _not_beaten(everywhere[1])) + helped
    return Verdict(
        gate=gate,
        gain=gain,
        gain_without_leakage=without,
        off_is_baseline=same,
        ignores_neighbours=ignores,
        control_failed=bool(failed) if measured else None,
        controls=failed or measured,
        findings=findings,
        sentences=sentences + leakage.notes,
    )


def short_verdict(leakage: Leakage, compressors: Mapping[str, float] | None = None) -> list[str]:
    """The verdict in three short lines: the gain, the gain without leakage, and what is behind it.

    If random neighbours beat the plain model too, a line before the last says so: the first two
    would claim too much without it.

    Differences are in bits per byte.

    Args:
        compressors: as for `verdict`.
    """
    judged = verdict(leakage, None, compressors)
    everywhere, filtered = judged.findings[: len(_RIVALS)], judged.findings[len(_RIVALS) :]
    decisive = _decisive(everywhere)
    documents = 0 if decisive.difference is None else decisive.difference.documents
    chance = _finding(leakage, "random", "plain", UNFILTERED)
    claimed = judged.gain or judged.gain_without_leakage
    claims_too_much = claimed and chance.outcome is Outcome.better
    return [
        f"Retrieval {_SHORT[judged.gain]}: {_change(decisive)}",
        f"Beyond leakage it {_SHORT[judged.gain_without_leakage]}: {_change(_decisive(filtered))}",
        *([f"But random neighbours help too: {_change(chance)}"] if claims_too_much else []),
        support_in_words(leakage, documents, compressors),
    ]


def _decisive(findings: list[Finding]) -> Finding:
    """The difference that stands in the way of a gain, or else the one from the plain model."""
    order = (Outcome.worse, Outcome.unclear, Outcome.unmeasured)
    against = [finding for each in order for finding in findings if finding.outcome is each]
    return next(iter(against), findings[0])


def _change(finding: Finding) -> str:
    """A difference in bits per byte, with its interval; says if it was not measured."""
    difference, other = finding.difference, finding.b
    if difference is None or difference.delta_bpb is None:
        return f"not measured against {other}"
    interval = "no interval"
    if difference.low is not None and difference.high is not None:
        interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
    return f"{difference.delta_bpb:+.4f} against {other} ({interval})"


def _finding(leakage: Leakage, a: str, b: str, alpha: float) -> Finding:
    difference = leakage.difference(a, b, alpha)
    return Finding(a, b, alpha, outcome_of(difference), difference)


def outcome_of(difference: Difference | None) -> Outcome:
    """Outcome of a difference; an interval that ends at zero contains zero."""
    if difference is None or difference.low is None or difference.high is None:
        return Outcome.unmeasured
    if difference.high < 0:
        return Outcome.better
    return Outcome.worse if difference.low > 0 else Outcome.unclear


def _all_better(findings: list[Finding]) -> bool | None:
    return all_better(finding.outcome for finding in findings)


def all_better(found: Iterable[Outcome]) -> bool | None:
    """Whether every outcome is better; None if all measured ones are, but some are unmeasured."""
    outcomes = set(found)
    if outcomes & {Outcome.worse, Outcome.unclear}:
        return False
    return None if Outcome.unmeasured in outcomes else True


def _off_is_baseline(difference: Difference | None) -> bool | None:
    if difference is None or difference.delta_bpb is None:
        return None
    return difference.delta_bpb == 0 and {difference.low, difference.high} <= {0, None}


def _ignores_neighbours(controls: list[Finding]) -> bool | None:
    measured = [c for c in controls if c.outcome is not Outcome.unmeasured]
    return all(map(_unmoved, measured)) if measured else None


def _unmoved(finding: Finding) -> bool:
    difference = finding.difference
    if difference is None or difference.delta_bpb is None:
        return False
    return finding.outcome is Outcome.unclear and abs(difference.delta_bpb) < UNMOVED_BPB


def _ignored(controls: list[Finding]) -> str:
    measured = [c for c in controls if c.outcome is not Outcome.unmeasured]
    others = " or by ".join(CONTROLS[c.b] for c in measured)
    figures = "; ".join(f"{label(c.a)} minus {label(c.b)} {_figures(c)}" for c in measured)
    return (
        f"The score does not move when the neighbours are replaced by {others}: the model does "
        f"not use what it retrieves. It moves by less than {UNMOVED_BPB:g} bits per byte and the "
        f"interval has zero in it: {figures}."
    )


def _not_beaten(random: Finding) -> list[str]:
    """The sentence on random neighbours, if RETRO[ON] does not beat them."""
    return [_sentence(random)] if random.outcome in (Outcome.worse, Outcome.unclear) else []


def _with_random(leakage: Leakage) -> list[str]:
    """A sentence on the gain with random neighbours, if there is one."""
    found = _finding(leakage, "random", "plain", UNFILTERED)
    if found.outcome is not Outcome.better:
        return []
    return [
        f"Random neighbours beat the plain model too ({_figures(found)}): so much comes from how "
        "the model was trained, not from what is retrieved."
    ]


def _with_oracle(leakage: Leakage) -> list[str]:
    """A sentence on the gain with the oracle's neighbours, if measured."""
    found = _finding(leakage, "oracle", "on", UNFILTERED)
    words = {
        Outcome.better: "A search that knew the text to come would give more",
        Outcome.worse: "Even neighbours found with the text to come do not help this model",
        Outcome.unclear: "Neighbours found with the text to come give no clear gain",
    }.get(found.outcome)
    return [f"{words}: oracle minus RETRO[ON] {_figures(found)}."] if words else []


def _with_filtered(leakage: Leakage, max_run: int) -> list[str]:
    """A sentence on the gain that is left when leaky neighbours are replaced, if measured."""
    found = _finding(leakage, "filtered", "plain", UNFILTERED)
    words = {
        Outcome.better: "a gain over the plain model is left",
        Outcome.worse: "the model is worse than the plain model",
        Outcome.unclear: "no clear gain over the plain model is left",
    }.get(found.outcome)
    if words is None:
        return []
    return [
        f"When the next candidate replaces each neighbour that shares a run of {max_run} or more "
        f"tokens with the text, {words}: {label('filtered')} minus plain {_figures(found)}."
    ]


def _headline(gain: bool | None, findings: list[Finding]) -> str:
    if gain:
        return (
            "Retrieval helps: RETRO[ON] beats both the plain model, which has read as many "
            "training tokens, and random neighbours."
        )
    if findings[0].difference is None:
        return (
            "A gain from retrieval was not shown: no plain model that has read as many training "
            "tokens was scored (plain=tokens in the run's train.py command trains one; a run that "
            "may end early has none)."
        )
    return f"A gain from retrieval was not shown: {_reasons(findings)}."


def _headline_without_leakage(gain: bool | None, without: bool | None, why: str) -> str:
    where = f"chunks with r(C) <= {LEAK_FREE_ALPHA:g}"
    if without and gain:
        return f"The gain is not only leakage: it holds on {where} as well."
    if without:
        return f"RETRO[ON] beats both the plain model and random neighbours on {where}."
    if gain:
        return f"That the gain is more than leakage was not shown: on {where}, {why}."
    return f"Nor was one shown on {where}: {why}."


def _reasons(findings: list[Finding]) -> str:
    reasons = {
        Outcome.worse: "it is worse than {other}",
        Outcome.unclear: "its difference from {other} may be chance",
        Outcome.unmeasured: "there is no interval against {other}",
    }
    parts = [
        reasons[finding.outcome].format(other=WITH_ARTICLE[finding.b])
        for finding in findings
        if finding.outcome in reasons
    ]
    return " and ".join(parts)


def _sentence(finding: Finding) -> str:
    chunks = (
        "all chunks" if finding.alpha == UNFILTERED else f"chunks with r(C) <= {finding.alpha:g}"
    )
    return f"{label(finding.a)} minus {label(finding.b)}, {chunks}: {_figures(finding)}."


def _figures(finding: Finding) -> str:
    difference = finding.difference
    assert difference is not None, "figures are of measured findings only"
    return f"{difference.delta_bpb:+.4f} bits per byte, {interval_in_words(difference)}"

"""The verdict on a leak experiment in words, as far as its intervals support it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from ..measure.injection import (
    FIRST,
    FIRST_FILTERED,
    MEMORY,
    REST,
    SECOND,
    SECOND_FILTERED,
    SETS,
    Injection,
)
from ..measure.leakage import LEAK_FREE_ALPHA, Difference
from .reference_words import EXACT_WITH_DATABASE
from .verdict import UNMOVED_BPB
from .verdict_words import interval_in_words

FLAT_SETS = (SECOND, REST, FIRST_FILTERED, SECOND_FILTERED)
"""Sets whose score planted documents are expected to leave unchanged."""


@dataclass(frozen=True)
class InjectionVerdict:
    """The verdict on a leak experiment; None means undecided.

    Attributes:
        dose_response: on the first half, more planted documents give fewer bits per byte, and the
            interval of the largest dose lies below zero.
        flat: by set of `FLAT_SETS`: at every dose the change is below 0.001 bits per byte, or its
            interval contains zero.
        sentences: the verdict in words.
    """

    dose_response: bool | None
    flat: dict[str, bool | None]
    sentences: list[str]


def injection_verdict(injection: Injection) -> InjectionVerdict:
    """Judges a leak experiment."""
    response = _dose_response(injection)
    flat = {name: _stays_flat(_changes(injection, name)) for name in FLAT_SETS}
    sentences = [_response_sentence(injection, response), _copies_sentence(injection)]
    sentences += [_flat_sentence(injection, name, flat[name]) for name in FLAT_SETS]
    return InjectionVerdict(response, flat, sentences)


def of_memory(injection: Injection) -> Injection | None:
    """The experiment on the model with its memory, told as one on RETRO[ON]; None without one."""
    if injection.memory is None:
        return None
    return replace(injection, doses=injection.memory, memory=None, reference=EXACT_WITH_DATABASE)


def is_flat(change: Difference) -> bool | None:
    """Whether a change is below 0.001 bits per byte or may be zero; None if undecided."""
    if change.delta_bpb is None:
        return None
    if abs(change.delta_bpb) < UNMOVED_BPB:
        return True
    if change.low is None or change.high is None:
        return None
    return change.low <= 0 <= change.high


def percent(share: float) -> str:
    """`12.5 %`."""
    return f"{100 * share:.3g} %"


def _changes(injection: Injection, name: str) -> list[Difference]:
    """The changes of a set under every dose above 0."""
    return [dose.sets[name].change for dose in injection.doses[1:]]


def _dose_response(injection: Injection) -> bool | None:
    points = [(len(dose.planted), dose.sets[FIRST].change.delta_bpb) for dose in injection.doses]
    high = injection.doses[-1].sets[FIRST].change.high
    if high is None:
        return None
    falls = all(
        more == fewer or (after or 0.0) < (before or 0.0)
        for (fewer, before), (more, after) in itertools.pairwise(points)
    )
    return falls and high < 0


def _stays_flat(changes: list[Difference]) -> bool | None:
    """Whether every change with a figure is flat; None if undecided."""
    found = [is_flat(change) for change in changes if change.delta_bpb is not None]
    if False in found:
        return False
    return None if None in found or not found else True


def _response_sentence(injection: Injection, response: bool | None) -> str:
    changes, last = _changes(injection, FIRST), injection.doses[-1]
    figures = ", ".join(
        "nothing" if change.delta_bpb is None else f"{change.delta_bpb:+.4f}" for change in changes
    )
    shares = ", ".join(percent(dose.share) for dose in injection.doses[1:])
    planted = ", ".join(f"{len(dose.planted):,}" for dose in injection.doses[1:])
    documents = f"{planted} of its {injection.documents[0]:,} documents"
    who = "The model with memory" if injection.condition == MEMORY else "RETRO[ON]"
    return (
        f"Dose response: {_word(response)}. {who} on all of the first half changes by "
        f"{figures} bits per byte with {shares} of it planted, {documents} "
        f"(at {percent(last.share)}: {interval_in_words(changes[-1])})."
    )


def _copies_sentence(injection: Injection) -> str:
    dose = injection.doses[-1]
    if dose.median_overlap is None or dose.copied is None or dose.missed is None:
        return "No chunk of an injected document was scored."
    return (
        f"The chunks of injected documents have a median r(C) of {dose.median_overlap:.2f} at "
        f"{percent(dose.share)}: {percent(dose.copied)} of them are whole copies, and "
        f"{percent(dose.missed)} would pass the filter r(C)≤{LEAK_FREE_ALPHA:g}."
    )


def _flat_sentence(injection: Injection, name: str, flat: bool | None) -> str:
    what = f"{SETS[name][0].upper()}{SETS[name][1:]}"
    known = [dose for dose in injection.doses[1:] if dose.sets[name].change.delta_bpb is not None]
    if not known:
        return f"{what}: no chunk of it was scored."
    most = max(known, key=lambda dose: abs(dose.sets[name].change.delta_bpb or 0.0))
    figures = most.sets[name]
    read = percent(figures.other_neighbours or 0.0)
    return (
        f"{what}: flat, {_word(flat)}. Its largest change is {figures.change.delta_bpb:+.4f} bits "
        f"per byte at {percent(most.share)} ({interval_in_words(figures.change)}); {read} of its "
        "chunks were predicted with other neighbours then."
    )


def _word(found: bool | None) -> str:
    return {True: "yes", False: "no", None: "cannot be said"}[found]

"""The verdict on a run at one glance: gain, what is left without leakage, and controls.

A terminal prints the same sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference
from ..records.results import Results
from .memory_report import MemoryVerdict, memory_verdict
from .tables import difference_text
from .verdict import Outcome, Verdict, outcome_of, verdict

_SHOWN = {True: "shown", False: "not shown", None: "not measured"}
_CONTROL = {True: "failed", False: "passed", None: "not measured"}
_OUTCOMES = {
    Outcome.better: "shown",
    Outcome.worse: "worse",
    Outcome.unclear: "not shown",
    Outcome.unmeasured: "not measured",
}


@dataclass(frozen=True)
class CardLine:
    """One question of the card and its answer.

    Attributes:
        title: what is asked.
        answer: shown, not shown, worse, passed, failed or not measured.
        figure: the difference that answers it, with its interval; empty for controls.
        sentences: what the verdict says on it.
    """

    title: str
    answer: str
    figure: str
    sentences: list[str]


def run_verdict(results: Results) -> Verdict | None:
    """The verdict on retrieval; None for a run without it."""
    settings = results.evaluation
    if "on" not in results.metrics[settings.split]:
        return None
    return verdict(results.leakage, settings.max_run, results.compressors)


def verdict_sentences(results: Results) -> list[str]:
    """The verdict on retrieval and on a memory in words, most important first."""
    found, memory = run_verdict(results), memory_verdict(results)
    return [*(found.sentences if found else []), *(memory.sentences if memory else [])]


def verdict_card(results: Results) -> list[CardLine]:
    """The lines of the card; empty for a run without retrieval and memory."""
    found, memory = run_verdict(results), memory_verdict(results)
    lines = [] if found is None else _of_retrieval(results, found)
    return lines if memory is None else lines + _of_memory(memory)


def _of_retrieval(results: Results, found: Verdict) -> list[CardLine]:
    whole, filtered = (
        results.leakage.difference("on", "plain", alpha) for alpha in (UNFILTERED, LEAK_FREE_ALPHA)
    )
    first, second = found.sentences[:2]
    return [
        CardLine("Gain from retrieval", _SHOWN[found.gain], _figure(whole), [first]),
        CardLine(
            "Gain without leakage",
            _SHOWN[found.gain_without_leakage],
            _figure(filtered),
            [second],
        ),
        CardLine("Controls", _CONTROL[found.control_failed], "", found.controls),
    ]


def _of_memory(found: MemoryVerdict) -> list[CardLine]:
    whole, exact = (_OUTCOMES[outcome_of(d)] for d in (found.whole, found.exact))
    return [
        CardLine("Gain from the memory", whole, _figure(found.whole), found.sentences[:1]),
        CardLine("Its gain without leakage", exact, _figure(found.exact), found.without_leakage),
        CardLine("Its control", _CONTROL[found.control_failed], "", found.controls),
    ]


def _figure(difference: Difference | None) -> str:
    if difference is None or difference.delta_bpb is None:
        return ""
    return f"{difference_text(difference)} bits per byte"

"""Lines on the plain model: how it was trained, and whether that made it better."""

from __future__ import annotations

from ..measure.leakage import UNFILTERED, Leakage
from ..records.results import PlainModel, Results
from .table import with_interval
from .verdict import Outcome, outcome_of

_AS_MUCH = {"tokens": "as many training tokens", "flops": "as many training FLOPs"}
_AGAINST = {
    Outcome.better: "better than the baseline",
    Outcome.worse: "worse than the baseline: beating plain alone proves little",
    Outcome.unclear: "no better and no worse than the baseline, as far as shown",
}


def plain_in_words(results: Results) -> list[str]:
    """The plain model's training, and its difference from the baseline; empty without one."""
    if results.plain is None:
        return []
    return [_trained(results.plain), *_against_baseline(results.leakage)]


def _trained(plain: PlainModel) -> str:
    read = "" if plain.epochs is None else f" (the training text {plain.epochs:,.1f} times)"
    return (
        f"plain: {_AS_MUCH[plain.match]} as RETRO, {plain.steps:,} steps, "
        f"{plain.training_tokens:,} tokens{read}, learning rate {plain.lr:g} ({plain.run})"
    )


def _against_baseline(leakage: Leakage) -> list[str]:
    """A line on plain minus baseline over all chunks, if measured."""
    found = leakage.difference("plain", "baseline", UNFILTERED)
    words = _AGAINST.get(outcome_of(found))
    if found is None or words is None:
        return []
    return [f"plain - baseline {with_interval(found.delta_bpb, found.low, found.high)}: {words}"]

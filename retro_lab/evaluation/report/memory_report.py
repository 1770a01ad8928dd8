"""What a memory gains: its tables, and the verdict on it in words.

A memory reads the whole database, so its leak filter is exact: chunks are kept by the longest run
of tokens that they share with any text of the database or the training split.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..measure.conditions import FAMILIES, judged, label
from ..measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference, Leakage
from ..records.results import Results
from .table import NONE, Table, number
from .tables import difference_text
from .verdict import UNMOVED_BPB, Outcome, outcome_of
from .verdict_words import interval_in_words

_SHOWN = (0.125, 0.25, 0.5, 1.0)
_COLUMNS = ("baseline", "plain", "on", "memory", "plain_memory")
_WORDS = {
    "baseline": "model\nalone",
    "memory": "with\nmemory",
    "plain_memory": "plain +\nmemory",
}
_PARTS = (
    "memory",
    *(f"memory_{family}" for family in FAMILIES),
    *(f"memory_without_{family}" for family in FAMILIES),
    "memory_random",
    "plain_memory",
    "on",
    "cache",
    "plain_cache",
    "memory_cache",
)


def compared_model(conditions: Iterable[str]) -> str:
    """The condition that a memory's gain is measured against.

    This is the plain model, or the run's own model if it has no retrieval: a gate is all that is
    trained besides, so both have read as many training tokens.
    """
    present = set(conditions)
    return next(name for name in ("plain", "baseline", "on") if name in present)


def memory_tables(results: Results) -> list[Table]:
    """The memory by longest shared run, and its parts; empty without a memory."""
    memory = results.memory
    if memory is None:
        return []
    size = results.config["chunking"]["chunk_size"]
    exact = results.leakage if memory.exact is None else memory.exact
    return [_by_run(exact, size, memory.exact is not None), _parts(exact, size)]


def _by_run(exact: Leakage, size: int, measured: bool) -> Table:
    """Bits per byte of the chunks that share at most so many tokens in a row."""
    own, other = judged(exact.curves), compared_model(exact.curves)
    names = [name for name in _COLUMNS if name in exact.curves]
    if "plain" in names and "baseline" in names:
        names.remove("baseline")
    points = exact.curves[own]
    rows = []
    for place, alpha in enumerate(exact.alphas):
        if alpha not in _SHOWN:
            continue
        point, total = points[place], points[-1].bytes
        rows.append(
            [
                "any" if alpha == UNFILTERED else f"{alpha * size:g}",
                f"{point.chunks:,}",
                f"{100 * point.bytes / total:.0f}%" if total else NONE,
                f"{point.documents:,}",
                *(number(exact.curves[name][place].bpb, ".3f") for name in names),
                difference_text(exact.difference(own, other, alpha)),
            ]
        )
    heads = [_WORDS.get(name, name) for name in names]
    title = "bits per byte on chunks that share at most so many tokens in a row with any text read"
    difference = f"{_WORDS.get(own, own)} - {label(other)}".replace("\n", " ")
    head = ["tokens", "chunks", "bytes\nkept", "docs", *heads, difference]
    return Table(head, rows, title if measured else None)


def _parts(exact: Leakage, size: int) -> Table:
    """Each condition of a memory minus the compared model."""
    other = compared_model(exact.curves)
    alphas = [a for a in (UNFILTERED, LEAK_FREE_ALPHA) if a in exact.alphas]
    heads = [
        "all chunks" if alpha == UNFILTERED else f"at most {alpha * size:g} tokens shared"
        for alpha in alphas
    ]
    rows = [
        [label(name), *(difference_text(_minus(exact, name, other, alpha)) for alpha in alphas)]
        for name in _PARTS
        if name in exact.curves and name != other
    ]
    return Table([f"minus {label(other)}", *heads], rows)


def _minus(leakage: Leakage, name: str, other: str, alpha: float) -> Difference | None:
    """The difference of a pair; without an interval if only its bits per byte are known."""
    found = leakage.difference(name, other, alpha)
    if found is not None:
        return found
    place = leakage.alphas.index(alpha)
    a, b = leakage.curves[name][place], leakage.curves[other][place]
    delta = None if a.bpb is None or b.bpb is None else a.bpb - b.bpb
    return Difference(name, other, alpha, delta, None, None, a.documents)


@dataclass(frozen=True)
class MemoryVerdict:
    """The verdict on a memory.

    Attributes:
        whole: its difference from the compared model, on all chunks.
        exact: the same on chunks without an exact leak; None if these are not known.
        control_failed: random contexts gain too; None if not scored.
        controls: the sentence on this control.
        sentences: the verdict in words, most important first.
        without_leakage: the sentence on `exact`; empty if it is None.
    """

    whole: Difference | None
    exact: Difference | None
    control_failed: bool | None
    controls: list[str]
    sentences: list[str]
    without_leakage: list[str]


def memory_verdict(results: Results) -> MemoryVerdict | None:
    """Judges a memory; None without one."""
    memory = results.memory
    if memory is None or not memory.experts or memory.experts == ["cache"]:
        return None
    exact = results.leakage if memory.exact is None else memory.exact
    own, other = judged(exact.curves), compared_model(exact.curves)
    without, part = [], None
    if memory.exact is not None:
        part = exact.difference(own, other, LEAK_FREE_ALPHA)
        without = [_without_leakage(exact, other, results.config["chunking"]["chunk_size"])]
    control = _random_control(exact, other)
    shipped = results.config["memory"].get("gate") == "shipped"
    controls = [] if control is None else [_random(control, shipped)]
    return MemoryVerdict(
        whole=exact.difference(own, other, UNFILTERED),
        exact=part,
        control_failed=None if control is None else _mixing_gains(control),
        controls=controls,
        sentences=[_headline(exact, other), *without, *controls, *_due_to(exact, other)],
        without_leakage=without,
    )


def _headline(exact: Leakage, other: str) -> str:
    own = judged(exact.curves)
    whole = exact.difference(own, other, UNFILTERED)
    outcome = outcome_of(whole)
    if whole is None or whole.delta_bpb is None:
        return "The memory's gain was not measured."
    base = exact.curves[other][-1].bpb
    percent = f" ({100 * whole.delta_bpb / base:+.1f} %)" if base else ""
    words = {
        Outcome.better: "The memory helps",
        Outcome.worse: "The memory hurts",
        Outcome.unclear: "A gain from the memory was not shown",
        Outcome.unmeasured: "There is no interval for the memory's gain",
    }[outcome]
    pair = f"{label(own)} minus {label(other)}"
    return (
        f"{words}: {pair} {whole.delta_bpb:+.4f} bits per byte{percent}, "
        f"{interval_in_words(whole)}."
    )


def _without_leakage(exact: Leakage, other: str, size: int) -> str:
    """The gain on the exact row, and how much of the gain it is."""
    tokens = f"{LEAK_FREE_ALPHA * size:g}"
    where = f"chunks that share no run of more than {tokens} tokens with any text it reads"
    own = judged(exact.curves)
    part = exact.difference(own, other, LEAK_FREE_ALPHA)
    if part is None or part.delta_bpb is None:
        return f"There is no figure for {where}."
    words = {
        Outcome.better: "is left",
        Outcome.worse: "is against it",
        Outcome.unclear: "may be chance",
        Outcome.unmeasured: "has no interval",
    }[outcome_of(part)]
    whole = exact.difference(own, other, UNFILTERED)
    sentence = (
        f"On {where} {part.delta_bpb:+.4f} {words}, {interval_in_words(part)}. A memory recalls "
        "the phrasing of its database; what is left here is the statistics of its short phrases."
    )
    if whole is None or whole.delta_bpb is None or whole.delta_bpb >= 0:
        return sentence
    kept, total = _bytes_at(exact, LEAK_FREE_ALPHA), _bytes_at(exact, UNFILTERED)
    share, text = part.delta_bpb * kept / (whole.delta_bpb * total), kept / total
    return f"{sentence} It is {100 * share:.0f} % of the gain, on {100 * text:.0f} % of the text."


def _bytes_at(leakage: Leakage, alpha: float) -> int:
    return leakage.curves[judged(leakage.curves)][leakage.alphas.index(alpha)].bytes


def _random_control(exact: Leakage, other: str) -> Difference | None:
    """The control with random contexts minus the model that it is mixed into, if measured."""
    own = "on" if "on" in exact.curves else other
    found = exact.difference("memory_random", own, UNFILTERED)
    return None if found is None or found.delta_bpb is None else found


def _mixing_gains(control: Difference) -> bool:
    better = outcome_of(control) is Outcome.better
    return better and control.delta_bpb is not None and control.delta_bpb <= -UNMOVED_BPB


def _random(control: Difference, shipped: bool) -> str:
    """The sentence on the control with random contexts.

    Args:
        shipped: whether nothing is fitted, so that the control has the memory's own gate.
    """
    gate = "the same gate over" if shipped else "a gate fitted on"
    meaning = "the gain is not an effect of mixing"
    if _mixing_gains(control):
        meaning = "which should be no gain: something else than evidence is at work"
    return (
        f"Control: {gate} the evidence of other documents' contexts changes the score by "
        f"{control.delta_bpb:+.4f}, {interval_in_words(control)}: {meaning}."
    )


def _due_to(exact: Leakage, other: str) -> list[str]:
    """Sentences on what else could explain the gain: RETRO, and the own-document cache."""
    found = []
    both = exact.difference("memory", "plain_memory", UNFILTERED)
    if both is not None and both.delta_bpb is not None:
        words = {
            Outcome.better: "RETRO adds to it",
            Outcome.worse: "RETRO is a loss beside it",
        }.get(outcome_of(both), "RETRO adds nothing clear to it")
        found.append(
            f"{words}: with the same memory, RETRO[ON] minus plain {both.delta_bpb:+.4f}, "
            f"{interval_in_words(both)}."
        )
    cache = exact.difference("cache", other, UNFILTERED)
    more = exact.difference("memory_cache", "cache", UNFILTERED)
    if cache is not None and more is not None:
        found.append(
            f"A cache of the own document, which is no retrieval, changes the score by "
            f"{cache.delta_bpb:+.4f}; on top of it the memory gives {more.delta_bpb:+.4f}, "
            f"{interval_in_words(more)}."
        )
    return found

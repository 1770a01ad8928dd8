"""The tables of an evaluation; they fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..measure.comparison import ComparedRun
from ..measure.conditions import WITHOUT_POINTER, compared_with, in_order, label, reads_memory
from ..measure.gain import Correlation, Gain, GainBin
from ..measure.injection import FIRST, MEMORY, ON, SETS, Injection
from ..measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference, Leakage
from ..measure.metrics import Score
from .injection_verdict import percent
from .reference_words import in_words
from .table import NONE, Table, number, with_interval

# Conditions of the probes table; the leakage table has no room for them.
FURTHER_PROBES = ("shuffled", "filtered", WITHOUT_POINTER, "oracle")
_NARROW = {"baseline": "base-\nline", "off": "back-\nbone"}


def conditions_table(
    scores: Mapping[str, Score],
    title: str | None = None,
    words: int | None = None,
    perplexity: tuple[str, str] = ("ppl", "word ppl"),
) -> Table:
    """Loss, perplexity and bits per byte of each condition, on the same tokens.

    Args:
        words: number of words in the text, for perplexity a word; None leaves this column out.
        perplexity: headings of perplexity a token and perplexity a word.
    """
    per_token, per_word = perplexity
    head = ["condition", "nats/token", per_token, *([] if words is None else [per_word])]
    rows = [
        [
            label(name),
            number(score.loss, ".4f"),
            number(score.ppl, ".2f"),
            *([] if words is None else [number(score.per_word(words), ".6g")]),
            number(score.bpb, ".4f"),
            f"{score.tokens:,}",
            f"{score.bytes:,}",
        ]
        for name, score in ((name, scores[name]) for name in in_order(scores))
    ]
    return Table([*head, "bits/byte", "tokens", "bytes"], rows, title)


def leakage_table(leakage: Leakage, title: str | None = None) -> Table:
    """bpb(alpha), a row for each alpha; the last column is on minus plain with its interval.

    Without a plain model the last column is on minus baseline. With one, the baseline has no
    column, to fit 80 columns: a frozen backbone has the same score.
    """
    other = compared_with(leakage.curves) or "baseline"
    left_out = {*FURTHER_PROBES, *(["baseline"] if other == "plain" else [])}
    kept = [n for n in in_order(leakage.curves) if n not in left_out and not reads_memory(n)]
    curves = {name: leakage.curves[name] for name in kept}
    figures = [_NARROW.get(condition, condition) for condition in curves]
    points = next(iter(curves.values()))
    total = points[-1].bytes
    rows = [
        [
            f"{alpha:g}",
            f"{point.chunks:,}",
            f"{100 * point.bytes / total:.0f}%" if total else NONE,
            f"{point.documents:,}",
            *(number(curve[place].bpb, ".3f") for curve in curves.values()),
            difference_text(leakage.difference("on", other, alpha)),
        ]
        for place, (alpha, point) in enumerate(zip(leakage.alphas, points, strict=True))
    ]
    head = ["r(C) ≤", "chunks", "bytes\nkept", "docs", *figures, f"on - {label(other)}"]
    last = len(head) - 1
    controls = [number for number in range(4, last) if head[number] != "on"]
    return Table(head, rows, title, spare=[1, 3, 2, *controls])


def probes_table(
    leakage: Leakage, title: str | None = None, over: str = "minus RETRO[ON]\n"
) -> Table:
    """Probes with other neighbours: each probe minus RETRO[ON], on the same chunks.

    Args:
        over: beginning of the heading of each figure.
    """
    alphas = [a for a in (UNFILTERED, LEAK_FREE_ALPHA) if a in leakage.alphas]
    heads = ["all chunks" if alpha == UNFILTERED else f"r(C) ≤ {alpha:g}" for alpha in alphas]
    rows = [
        [label(name), *(difference_text(_minus_on(leakage, name, alpha)) for alpha in alphas)]
        for name in ("off", "random", *FURTHER_PROBES)
        if name in leakage.curves
    ]
    return Table(["read instead", *(f"{over}{head}" for head in heads)], rows, title)


def _minus_on(leakage: Leakage, name: str, alpha: float) -> Difference | None:
    """A condition minus on; the sign is turned if the pair is reported as on minus condition."""
    found = leakage.difference("on", name, alpha)
    if found is None:
        return leakage.difference(name, "on", alpha)
    if found.delta_bpb is None or found.low is None or found.high is None:
        return found
    return Difference(name, "on", alpha, -found.delta_bpb, -found.high, -found.low, found.documents)


def comparison_table(rows: Sequence[ComparedRun], title: str | None = None) -> Table:
    """Runs on the same chunks: bits per byte, and the paired difference from the first."""
    cells = [
        [
            row.name,
            f"{row.alpha:g}",
            number(row.score.bpb, ".4f"),
            difference_text(row.difference),
        ]
        for row in rows
    ]
    head = ["run", "r(C) ≤", "bits/byte", "minus the first run"]
    return Table(head, cells, title, name_width=1)


def injection_table(injection: Injection, title: str | None = None) -> Table:
    """A leak experiment: each dose and set of chunks, with the change from nothing planted."""
    everything, scored = injection.doses[0].sets[FIRST].bpb, injection.condition
    other = "baseline" if everything.get("plain") is None else "plain"
    figures = (other, "off", ON) if scored == ON else (other, ON, MEMORY)
    rows = []
    for dose in injection.doses:
        shown = {name: dose.sets[name] for name in SETS if dose.sets[name].chunks}
        for place, (part, found) in enumerate(shown.items()):
            rows.append(
                [
                    percent(dose.share) if place == 0 else "",
                    SETS[part],
                    f"{found.documents:,}",
                    *(number(found.bpb.get(name), ".3f") for name in figures),
                    difference_text(found.change) if dose.share else NONE,
                ]
            )
    narrow = [_NARROW.get(name, name) for name in figures]
    change = f"{scored} minus {scored} at 0 %"
    return Table(["dose", "text", "docs", *narrow, change], rows, title, names=2)


def gain_tables(gain: Gain, reference: str | None) -> list[Table]:
    """A table for each breakdown of the gain.

    Args:
        reference: the text that overlap was measured against, as in results.json.
    """
    greatest, smallest = gain.ends()
    overlap = f"overlap with {in_words(reference)}; chunks that could read neighbours"
    score = "retrieval score of the best neighbour read"
    parts = (
        (gain.by_overlap, "r(C)", f"by {overlap}{_spearman(gain.correlation)}"),
        (gain.by_score, "score", f"by {score}{_spearman(gain.score_correlation)}"),
        (gain.by_rank, "rank", "by the neighbour that shares the longest run"),
        (gain.by_position, "chunk", "by chunk of the document"),
        (gain.by_place, "place", "by place of the token in its chunk"),
        (greatest, "document", "greatest by document"),
        (smallest, "document", "smallest by document"),
    )
    pair = f"{label(gain.a)} over {label(gain.b)}"
    return [
        _gain_table(gain, bins, heading, f"{gain.noun} of {pair}, {words}")
        for bins, heading, words in parts
        if bins
    ]


def _spearman(found: Correlation | None) -> str:
    return "" if found is None else f", Spearman {number(found.rho, '+.3f')}"


def _gain_table(gain: Gain, bins: Sequence[GainBin], heading: str, title: str) -> Table:
    counted = "tokens" if bins is gain.by_place else "chunks"
    rows = [
        [
            part.name,
            f"{part.chunks:,}",
            f"{part.documents:,}",
            f"{part.bytes:,}",
            NONE if (share := gain.share(part)) is None else f"{100 * share:.1f}%",
            with_interval(part.bpb, part.low, part.high),
        ]
        for part in bins
    ]
    head = [heading, counted, "docs", "bytes", "share of\ngain", "bits/byte gained"]
    return Table(head, rows, title, name_width=12)


def difference_text(difference: Difference | None) -> str:
    """`-0.0310 (-0.0402..-0.0221)`; without an interval the difference alone."""
    if difference is None:
        return NONE
    return with_interval(difference.delta_bpb, difference.low, difference.high)

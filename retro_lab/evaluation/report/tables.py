"""Tables for the terminal, readable from 80 columns on; each is a rich renderable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from ..measure.comparison import ComparedRun
from ..measure.conditions import WITHOUT_POINTER, compared_with, in_order, label
from ..measure.gain import Correlation, Gain, GainBin
from ..measure.injection import FIRST, SETS, Injection
from ..measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference, Leakage
from ..measure.metrics import Score
from .injection_verdict import percent
from .reference_words import in_words

NONE = "-"
# In a table of their own; they would not fit.
FURTHER_PROBES = ("shuffled", "filtered", WITHOUT_POINTER, "oracle")
_NARROW = {"baseline": "base-\nline", "off": "back-\nbone"}


def conditions_table(
    scores: Mapping[str, Score], title: str | None = None, words: int | None = None
) -> Table:
    """Loss, perplexity and bits per byte of each condition, on the same tokens.

    Args:
        words: of the text, for perplexity a word; None leaves that out.
    """
    table = _table(title, "condition")
    per_word = [] if words is None else ["word ppl"]
    for heading in ("nats/token", "ppl", *per_word, "bits/byte", "tokens", "bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for condition in in_order(scores):
        score = scores[condition]
        table.add_row(
            escape(label(condition)),
            _number(score.loss, ".4f"),
            _number(score.ppl, ".2f"),
            *([] if words is None else [_number(score.per_word(words), ".6g")]),
            _number(score.bpb, ".4f"),
            f"{score.tokens:,}",
            f"{score.bytes:,}",
        )
    return table


def leakage_table(leakage: Leakage, title: str | None = None) -> Table:
    """bpb(alpha): a row an alpha; the last column is on minus plain with its interval.

    Without a plain model it is on minus baseline; with one the baseline has no column, since a
    frozen backbone scores as it does, and the table is to fit 80 columns.
    """
    table = _table(title, "r(C) ≤")
    other = compared_with(leakage.curves) or "baseline"
    left_out = {*FURTHER_PROBES, *(["baseline"] if other == "plain" else [])}
    curves = {n: leakage.curves[n] for n in in_order(leakage.curves) if n not in left_out}
    figures = [_NARROW.get(condition, condition) for condition in curves]
    for heading in ["chunks", "bytes\nkept", "docs", *figures, f"on - {label(other)}"]:
        table.add_column(heading, justify="right", no_wrap=True)
    points = next(iter(curves.values()))
    total = points[-1].bytes
    for row, alpha in enumerate(leakage.alphas):
        point = points[row]
        table.add_row(
            f"{alpha:g}",
            f"{point.chunks:,}",
            f"{100 * point.bytes / total:.0f}%" if total else NONE,
            f"{point.documents:,}",
            *(_number(curve[row].bpb, ".3f") for curve in curves.values()),
            difference_text(leakage.difference("on", other, alpha)),
        )
    return table


def probes_table(leakage: Leakage, title: str | None = None) -> Table:
    """What changing the neighbours does: each probe minus RETRO[ON], on the same chunks."""
    heads, rows = probe_differences(leakage)
    table = _table(title, "read instead")
    for where in heads:
        table.add_column(f"minus RETRO[ON]\n{where}", justify="right", no_wrap=True)
    for name, *cells in rows:
        table.add_row(escape(name), *cells)
    return table


def probe_differences(leakage: Leakage) -> tuple[list[str], list[list[str]]]:
    """Headings of the figures, and rows: a probe's name and its differences from RETRO[ON]."""
    alphas = [a for a in (UNFILTERED, LEAK_FREE_ALPHA) if a in leakage.alphas]
    heads = ["all chunks" if alpha == UNFILTERED else f"r(C) ≤ {alpha:g}" for alpha in alphas]
    rows = [
        [label(name), *(difference_text(_minus_on(leakage, name, alpha)) for alpha in alphas)]
        for name in ("off", "random", *FURTHER_PROBES)
        if name in leakage.curves
    ]
    return heads, rows


def _minus_on(leakage: Leakage, name: str, alpha: float) -> Difference | None:
    """A condition minus on, whichever way round the pair is reported."""
    found = leakage.difference("on", name, alpha)
    if found is None:
        return leakage.difference(name, "on", alpha)
    if found.delta_bpb is None or found.low is None or found.high is None:
        return found
    return Difference(name, "on", alpha, -found.delta_bpb, -found.high, -found.low, found.documents)


def comparison_table(rows: Sequence[ComparedRun], title: str | None = None) -> Table:
    """Runs on the same chunks: bits per byte, and the paired difference from the first."""
    table = _table(title, "run")
    table.columns[0].no_wrap = False
    table.columns[0].overflow = "fold"
    for heading in ("r(C) ≤", "bits/byte", "minus the first run"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            escape(row.name),
            f"{row.alpha:g}",
            _number(row.score.bpb, ".4f"),
            difference_text(row.difference),
        )
    return table


def injection_table(injection: Injection, title: str | None = None) -> Table:
    """A leak experiment: each dose on each set of chunks, against the same chunks without it."""
    table = _table(title, "dose")
    table.add_column("text", no_wrap=True)
    everything = injection.doses[0].sets[FIRST].bpb
    other = "baseline" if everything.get("plain") is None else "plain"
    figures = (other, "off", "on")
    for heading in ("docs", *(_NARROW.get(name, name) for name in figures), "on minus on at 0 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for dose in injection.doses:
        shown = {name: dose.sets[name] for name in SETS if dose.sets[name].chunks}
        for place, (part, found) in enumerate(shown.items()):
            table.add_row(
                percent(dose.share) if place == 0 else "",
                SETS[part],
                f"{found.documents:,}",
                *(_number(found.bpb.get(name), ".3f") for name in figures),
                difference_text(found.change) if dose.share else NONE,
            )
    return table


def gain_tables(gain: Gain, reference: str | None) -> list[Table]:
    """Where the gain comes from: a table for each way in which it was taken apart.

    Args:
        reference: what overlap was measured with, as in results.json.
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
    return "" if found is None else f", Spearman {_number(found.rho, '+.3f')}"


def _gain_table(gain: Gain, bins: Sequence[GainBin], heading: str, title: str) -> Table:
    table = Table(
        title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column(heading, overflow="fold", min_width=12)
    counted = "tokens" if bins is gain.by_place else "chunks"
    for name in (counted, "docs", "bytes", "share of\ngain", "bits/byte gained"):
        table.add_column(name, justify="right", no_wrap=True)
    for part in bins:
        share = gain.share(part)
        table.add_row(
            escape(part.name),
            f"{part.chunks:,}",
            f"{part.documents:,}",
            f"{part.bytes:,}",
            NONE if share is None else f"{100 * share:.1f}%",
            _with_interval(part.bpb, part.low, part.high),
        )
    return table


def _table(title: str | None, first: str) -> Table:
    table = Table(
        title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column(first, no_wrap=True)
    return table


def _number(value: float | None, form: str) -> str:
    return NONE if value is None or value != value else format(value, form)


def difference_text(difference: Difference | None) -> str:
    """`-0.0310 (-0.0402..-0.0221)`; without an interval the difference alone."""
    if difference is None:
        return NONE
    return _with_interval(difference.delta_bpb, difference.low, difference.high)


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return NONE
    if low is None or high is None:
        return f"{value:+.4f}"
    return f"{value:+.4f} ({low:+.4f}..{high:+.4f})"

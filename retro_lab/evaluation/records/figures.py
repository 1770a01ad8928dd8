"""Figures of an evaluation under the names that loggers use."""

from __future__ import annotations

import math

from ..measure.conditions import in_order
from ..measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Leakage
from .results import Results

# Only the difference from the plain model, which has read as many tokens as RETRO, is a gain.
_DIFFERENCES = {"plain": "gain", "baseline": "on_minus_baseline"}
_ALPHAS = {UNFILTERED: "", LEAK_FREE_ALPHA: "_without_leakage"}


def figures(results: Results) -> dict[str, float]:
    """Scores of every condition, and differences of RETRO[ON] with their intervals.

    | name | meaning |
    | --- | --- |
    | test/on/bpb, .../ppl, .../nats | bits per byte, perplexity and nats a token, by condition |
    | test/gain/bpb, .../low, .../high | RETRO[ON] minus the plain model; below 0 RETRO is better |
    | test/gain_without_leakage/... | the same on chunks with r(C) <= 0.125 |
    | test/on_minus_baseline/... | RETRO[ON] minus the baseline |
    | test/memory_gain/... | plain model with memory minus without (or the model alone) |
    | test/memory_gain_without_leakage/... | on chunks with an exact r(C) <= 0.125 |
    | test/custom/<metric>/<figure> | the user's own metrics |
    | test/xz/bpb, test/ngram/bpb | compressors that have read the same training text |

    Figures that are not finite or not measured are left out.
    """
    found: dict[str, float | None] = {}
    for split, scores in results.metrics.items():
        for condition in in_order(scores):
            score = scores[condition]
            of_one = {"bpb": score.bpb, "ppl": score.ppl, "nats": score.loss}
            found |= {f"{split}/{condition}/{name}": value for name, value in of_one.items()}
    split = results.evaluation.split
    found |= {f"{split}/{name}/bpb": bpb for name, bpb in (results.compressors or {}).items()}
    for metric, own in (results.custom or {}).items():
        found |= {f"{split}/custom/{metric}/{name}": value for name, value in own.items()}
    for other, word in _DIFFERENCES.items():
        found |= _difference(results.leakage, "on", other, f"{split}/{word}")
    if results.memory is not None:
        exact = results.memory.exact or results.leakage
        pair = ("memory", "baseline")
        pair = ("plain_memory", "plain") if "plain_memory" in exact.curves else pair
        found |= _difference(exact, *pair, f"{split}/memory_gain")
    return {name: x for name, x in found.items() if x is not None and math.isfinite(x)}


def _difference(leakage: Leakage, a: str, b: str, name: str) -> dict[str, float | None]:
    """A difference and its interval on all chunks and on those with r(C) <= 0.125, if measured."""
    found = {}
    for alpha, suffix in _ALPHAS.items():
        difference = leakage.difference(a, b, alpha)
        if difference is not None:
            found |= {
                f"{name}{suffix}/bpb": difference.delta_bpb,
                f"{name}{suffix}/low": difference.low,
                f"{name}{suffix}/high": difference.high,
            }
    return found


def curve_table(leakage: Leakage) -> tuple[list[str], list[list[float | int | None]]]:
    """Headings and rows of bpb(alpha): alpha, the text kept, each condition, then differences."""
    conditions = in_order(leakage.curves)
    pairs = [
        pair
        for pair in (("on", other) for other in _DIFFERENCES)
        if leakage.difference(*pair, UNFILTERED) is not None
    ]
    heads = ["alpha", "chunks", "bytes", "documents", *conditions]
    heads += [f"{a}_minus_{b}{end}" for a, b in pairs for end in ("", "_low", "_high")]
    rows = []
    for number, alpha in enumerate(leakage.alphas):
        points = [leakage.curves[name][number] for name in conditions]
        first = points[0]
        row: list[float | int | None] = [alpha, first.chunks, first.bytes, first.documents]
        row += [point.bpb for point in points]
        for a, b in pairs:
            found = leakage.difference(a, b, alpha)
            row += [found.delta_bpb, found.low, found.high] if found is not None else [None] * 3
        rows.append(row)
    return heads, rows

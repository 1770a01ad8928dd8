"""The curves of a training, from metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from .figures import Figure, Series

MOST_POINTS = 500
"""Of a curve; of longer ones every n-th is drawn."""
_CURVES = (  # metric, label, colour, dash
    ("train/bpb", "training", 2, ()),
    ("val/bpb", "validation", 0, ()),
    ("val/off/bpb", "validation, backbone", 4, (6, 3)),
)
_RATE = ("train/lr", "learning rate", 1, ())


def training_figures(file: Path) -> list[Figure]:
    """Bits per byte and learning rate by step; empty without a readable file."""
    try:
        records = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    except (OSError, ValueError):
        return []
    figures = [
        _figure(records, "Bits per byte in training", "bits per byte", _CURVES),
        _figure(records, "Learning rate", "learning rate", [_RATE]),
    ]
    return [figure for figure in figures if figure is not None]


def _figure(
    records: Sequence[Mapping[str, Any]],
    title: str,
    name: str,
    curves: Sequence[tuple[str, str, int, Sequence[int]]],
) -> Figure | None:
    found: dict[str, dict[int, float]] = {}
    for metric, *_ in curves:
        values = {r["step"]: r[metric] for r in records if metric in r and "step" in r}
        steps = sorted(values)
        kept = {*steps[:: -(-len(steps) // MOST_POINTS) or 1], *steps[-1:]}
        found[metric] = {step: values[step] for step in kept}
    steps = sorted({step for values in found.values() for step in values})
    if len(steps) < 2:
        return None
    series = [
        Series(
            label,
            [found[metric].get(step) for step in steps],
            colour,
            points=len(found[metric]) < 40,
            dash=dash,
        )
        for metric, label, colour, dash in curves
        if found[metric]
    ]
    note = "A training figure is of one batch; validation is of the same windows each time."
    return Figure(title, steps, "step", name, series, note=note if len(curves) > 1 else "")

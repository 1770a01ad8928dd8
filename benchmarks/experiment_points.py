"""Figures of a point: bits per byte, and differences from the plain model with intervals.

A point's seeds score the same text. Figures are means over seeds, and intervals come from a
bootstrap over documents and seeds (`statistics.pooled_interval`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ablation_study import same_text
from experiment_list import EXPERIMENTS, Point
from numpy.typing import NDArray

from retro_lab.evaluation.measure.conditions import in_order
from retro_lab.evaluation.measure.leakage import LEAK_FREE_ALPHA
from retro_lab.evaluation.measure.overlap import within
from retro_lab.evaluation.measure.statistics import Bootstrap, pooled_interval
from retro_lab.evaluation.records.chunk_table import ChunkTable

PARTS = ("all", "leak_free")
Figures = dict[str, Any]
Scored = Callable[[Point, int], ChunkTable]
"""The scored chunks of a point trained with a seed."""


def scored(point: Point, seed: int, machine: Sequence[str]) -> ChunkTable:
    """Trains and evaluates a point, unless that is done.

    Args:
        machine: overrides of train.py that change no figure, such as `runs_dir=...`.
    """
    from retro_lab.api.composed import composed
    from retro_lab.api.evaluating import evaluate_fully
    from retro_lab.api.training import train
    from retro_lab.run.directory import RunDirectory

    run = train(*point.train, f"seed={seed}", "logger=none", "eval=ppl", "memory=none", *machine)
    command = composed("evaluate", [f"run={run.path}", "eval=exact", *point.evaluate])
    out, _ = evaluate_fully(RunDirectory(run.path), command)
    return ChunkTable.load(out.chunks_file)


def measure(scored: Scored, names: Sequence[str], record: Path) -> dict[str, dict[str, Figures]]:
    """Measures the points that the record lacks, or has with fewer seeds, and returns the record.

    Args:
        names: of `EXPERIMENTS`.
        record: a JSON file, written after each point.
    """
    known = json.loads(record.read_text()) if record.is_file() else {}
    for name in names:
        experiment = EXPERIMENTS[name]
        points = known.setdefault(name, {})
        for value, point in experiment.points.items():
            if points.get(value, {}).get("seeds") != list(experiment.seeds):
                tables = {seed: scored(point, seed) for seed in experiment.seeds}
                points[value] = figures_of(tables)
                known[name] = {
                    value: points[value] for value in experiment.points if value in points
                }
                points = known[name]
                record.write_text(json.dumps(known, indent=1) + "\n")
    return known


def figures_of(tables: Mapping[int, ChunkTable]) -> Figures:
    """What is kept of a point.

    Args:
        tables: by seed.

    Raises:
        ValueError: the seeds scored different text.
    """
    first, *others = tables.values()
    if not all(same_text(first, other) for other in others):
        raise ValueError("the seeds scored different text")
    names = in_order(set.intersection(*(set(table.nats) for table in tables.values())))
    differences = {
        name: {part: _difference(list(tables.values()), name, part) for part in PARTS}
        for name in names
        if name != "plain" and "plain" in names
    }
    return {
        "seeds": list(tables),
        "bpb": {
            name: round(float(np.mean([table.score(name).bpb for table in tables.values()])), 5)
            for name in names
        },
        "minus_plain": differences,
    }


def _difference(tables: Sequence[ChunkTable], name: str, part: str) -> list[float | None]:
    """Bits per byte less those of the plain model, both ends of the interval, and documents."""
    first = tables[0]
    kept = np.ones(len(first), np.bool_)
    if part == "leak_free" and first.overlap is not None:
        kept = within(LEAK_FREE_ALPHA, first.overlap.longest_run, first.tokens)
    _, document = np.unique(first.document[kept], return_inverse=True)
    nats = np.column_stack(
        [_sums(document, (t.nats[name] - t.nats["plain"])[kept]) for t in tables]
    )
    num_bytes = _sums(document, first.bytes[kept])
    delta = float(nats.sum(axis=0).mean() / (num_bytes.sum() * math.log(2)))
    ends = pooled_interval(nats, num_bytes, Bootstrap()) or (None, None)
    rounded = [None if end is None else round(end, 5) for end in (delta, *ends)]
    return [*rounded, len(num_bytes)]


def _sums(document: NDArray, values: NDArray) -> NDArray[np.float64]:
    return np.bincount(document, weights=values).astype(np.float64)

"""Figures of a point: bits per byte, and differences from the plain model with intervals.

A point's seeds score the same text. Figures are means over seeds, and intervals come from a
bootstrap over documents and seeds (`statistics.pooled_interval`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ablation_study import pooled_difference, same_text
from experiment_list import EXPERIMENTS, Point

from retro_lab.evaluation.measure.conditions import in_order
from retro_lab.evaluation.measure.leakage import UNFILTERED
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable

LEAK_FREE_TOKENS = 8  # longest run shared with training text, whatever the size of a chunk
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
    size = max(int(table.tokens.max()) for table in tables.values())
    parts = {"all": UNFILTERED, "leak_free": LEAK_FREE_TOKENS / size}
    names = in_order(set.intersection(*(set(table.nats) for table in tables.values())))
    differences = {
        name: {
            part: _difference(list(tables.values()), name, alpha) for part, alpha in parts.items()
        }
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


def _difference(tables: Sequence[ChunkTable], name: str, alpha: float) -> list[float | None]:
    """Bits per byte less those of the plain model, both ends of the interval, and documents."""
    found = pooled_difference(tables, name, "plain", Bootstrap(), alpha)
    figures = found.delta_bpb, found.low, found.high
    return [*(None if each is None else round(each, 5) for each in figures), found.documents]

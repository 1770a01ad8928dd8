"""Ways to train side by side: each one's figures, pooled over seeds, and whether it is a gain.

Runs of one way with several seeds score the same text, so the figures are means over seeds, and
the intervals come from a bootstrap over documents and seeds (`statistics.pooled_interval`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError

from ..measure.conditions import in_order
from ..measure.leakage import UNFILTERED, Difference
from ..measure.statistics import Bootstrap, pooled_interval
from ..records.chunk_table import ChunkTable
from .table import NONE, Table, number
from .tables import difference_text
from .verdict import all_better, outcome_of

_PAIRS = (("on", "plain"), ("on", "baseline"), ("on", "random"), ("on", "off"))

_SHOWN = ("baseline", "plain", "off", "random", "on")


@dataclass(frozen=True)
class Ablation:
    """One way to train, over its seeds.

    Attributes:
        recipe: its name.
        seeds: ascending.
        baseline_tokens: trained on before there was retrieval; 0 from scratch.
        tokens: trained on with retrieval.
        bpb: bits per byte by condition, mean over seeds.
        differences: by pair of conditions, mean over seeds.
        gate: copying has emerged: ON beats OFF and random neighbours.
        gain: ON beats the plain model, which has read as many training tokens, and random
            neighbours.
    """

    recipe: str
    seeds: list[int]
    baseline_tokens: int
    tokens: int
    bpb: dict[str, float]
    differences: dict[tuple[str, str], Difference]
    gate: bool | None
    gain: bool | None


def ablation(
    recipe: str,
    tables: Mapping[int, ChunkTable],
    *,
    baseline_tokens: int,
    tokens: int,
    bootstrap: Bootstrap,
) -> Ablation:
    """Pools the scored chunks of one way to train.

    Args:
        tables: by seed; conditions that not all of them have are left out.

    Raises:
        UserError: the seeds scored different text.
    """
    seeds = sorted(tables)
    pooled = [tables[seed] for seed in seeds]
    _check_same_text(recipe, pooled)
    conditions = in_order(set.intersection(*(set(table.nats) for table in pooled)))
    bpb = {name: float(np.mean([table.score(name).bpb for table in pooled])) for name in conditions}
    differences = {
        (a, b): _difference(pooled, a, b, bootstrap) for a, b in _PAIRS if {a, b} <= set(conditions)
    }
    outcome = {b: outcome_of(differences.get(("on", b))) for b in ("plain", "random", "off")}
    return Ablation(
        recipe=recipe,
        seeds=seeds,
        baseline_tokens=baseline_tokens,
        tokens=tokens,
        bpb=bpb,
        differences=differences,
        gate=all_better([outcome["random"], outcome["off"]]),
        gain=all_better([outcome["random"], outcome["plain"]]),
    )


def same_text(one: ChunkTable, other: ChunkTable) -> bool:
    """Whether two tables scored the same tokens of the same documents."""
    columns = ("document_id", "chunk_index", "tokens", "bytes")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)


def _check_same_text(recipe: str, tables: Sequence[ChunkTable]) -> None:
    if not all(same_text(tables[0], table) for table in tables[1:]):
        raise UserError(
            f"the seeds of recipe {recipe} scored different text",
            fix="give one study: the same corpus, tokenizer, chunking and eval.split for all seeds",
        )


def _difference(tables: Sequence[ChunkTable], a: str, b: str, bootstrap: Bootstrap) -> Difference:
    """bpb of a minus that of b, mean over the tables, with the pooled interval."""
    nats = np.column_stack([_by_document(t, t.nats[a] - t.nats[b]) for t in tables])
    num_bytes = _by_document(tables[0], tables[0].bytes)
    delta = float(nats.sum(axis=0).mean() / (num_bytes.sum() * math.log(2)))
    low, high = pooled_interval(nats, num_bytes, bootstrap) or (None, None)
    return Difference(a, b, UNFILTERED, delta, low, high, len(num_bytes))


def _by_document(table: ChunkTable, column: NDArray) -> NDArray[np.float64]:
    return np.bincount(table.document, weights=column).astype(np.float64)


def in_study_order(found: Sequence[Ablation]) -> list[Ablation]:
    """The largest gain first; what has no plain model comes last."""
    return sorted(found, key=lambda a: (_delta(a, "plain"), a.recipe))


def _delta(found: Ablation, other: str) -> float:
    difference = found.differences.get(("on", other))
    return math.inf if difference is None or difference.delta_bpb is None else difference.delta_bpb


def markdown_table(found: Sequence[Ablation]) -> str:
    """Figures, differences with intervals, gate and gain, a row a recipe."""
    others = ("plain", "baseline", "random")
    head = ["recipe", "tokens", "seeds", "baseline", "plain", "backbone", "random", "ON"]
    rows = [
        [
            f"`{row.recipe}`",
            tokens_text(row),
            str(len(row.seeds)),
            *(number(row.bpb.get(name), ".4f") for name in _SHOWN),
            *(difference_text(row.differences.get(("on", name))) for name in others),
            _yes_or_no(row.gate),
            _yes_or_no(row.gain),
        ]
        for row in found
    ]
    return Table([*head, *(f"ON - {name}" for name in others), "gate", "gain"], rows).markdown()


def tokens_text(row: Ablation) -> str:
    """Millions of tokens, the baseline's first: `1.64M + 0.33M`."""
    parts = [row.baseline_tokens, row.tokens] if row.baseline_tokens else [row.tokens]
    return " + ".join(f"{part / 1e6:.2f}M" for part in parts)


def _yes_or_no(value: bool | None) -> str:
    return NONE if value is None else "yes" if value else "no"

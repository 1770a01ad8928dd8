"""Ways to train side by side: each one's figures, pooled over seeds, and whether it is a gain; the
table of them, and the figure of their curves.

Runs of one way with several seeds score the same text, so the figures are means over seeds, and
the intervals come from a bootstrap over documents and seeds (`statistics.pooled_interval`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.conditions import in_order, label
from retro_lab.evaluation.measure.leakage import UNFILTERED, Difference
from retro_lab.evaluation.measure.overlap import within
from retro_lab.evaluation.measure.statistics import Bootstrap, pooled_interval
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.report.plots import INK, SOFT, STYLES, save, tidy
from retro_lab.evaluation.report.table import NONE, Table, number
from retro_lab.evaluation.report.tables import difference_text
from retro_lab.evaluation.report.verdict import all_better, outcome_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 5
MARGIN = 0.08  # of the drawn range, above and below
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
        (a, b): pooled_difference(pooled, a, b, bootstrap)
        for a, b in _PAIRS
        if {a, b} <= set(conditions)
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


def pooled_difference(
    tables: Sequence[ChunkTable], a: str, b: str, bootstrap: Bootstrap, alpha: float = UNFILTERED
) -> Difference:
    """bpb of a minus that of b, mean over the tables, with the pooled interval.

    Args:
        alpha: keeps the chunks whose overlap, if the first table has it, is at most this.
    """
    first = tables[0]
    kept = np.ones(len(first), np.bool_)
    if alpha < UNFILTERED and first.overlap is not None:
        kept = within(alpha, first.overlap.longest_run, first.tokens)
    _, document = np.unique(first.document[kept], return_inverse=True)
    saved = [(table.nats[a] - table.nats[b])[kept] for table in tables]
    nats = np.column_stack([np.bincount(document, weights=x) for x in saved]).astype(np.float64)
    num_bytes = np.bincount(document, weights=first.bytes[kept])
    delta = float(nats.sum(axis=0).mean() / (num_bytes.sum() * math.log(2)))
    low, high = pooled_interval(nats, num_bytes, bootstrap) or (None, None)
    return Difference(a, b, alpha, delta, low, high, len(num_bytes))


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


@dataclass(frozen=True)
class Curve:
    """One way to train, over its seeds.

    Attributes:
        seeds: of the rows.
        tokens: [P] trained on with retrieval, ascending.
        bpb: by condition, on and off, [seeds, P].
        baseline: [seeds] of each seed's baseline on the same windows; None where there is none.
        note: a few words under the name.
    """

    seeds: Sequence[int]
    tokens: NDArray[np.int64]
    bpb: Mapping[str, NDArray[np.float64]]
    baseline: NDArray[np.float64] | None
    note: str

    def of(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """[P], ON's mean over those of these seeds that it has; over all if it has none."""
        rows = [row for row, seed in enumerate(self.seeds) if seed in seeds]
        return self.bpb["on"][rows or slice(None)].mean(axis=0)

    @property
    def level(self) -> float | None:
        """The baseline's mean over seeds."""
        return None if self.baseline is None else float(self.baseline.mean())

    def centred(self, condition: str) -> NDArray[np.float64]:
        """[seeds, P], each seed moved so that its baseline lies at the mean of all: what is left
        of the spread is that of the difference from the baseline.
        """
        values = self.bpb[condition]
        if self.baseline is None:
            return values
        return values - self.baseline[:, None] + self.baseline.mean()


def plot_ablations(
    curves: Mapping[str, Curve], path: Path, *, title: str, reference: str | None = None
) -> None:
    """Writes a panel a recipe as a PNG: lines are means over seeds, bands reach from the lowest to
    the highest seed, each measured from its own baseline; the horizontal line is the baseline.

    Args:
        curves: by name, in the order of the panels.
        title: what was trained on what.
        reference: the recipe whose ON, of a panel's own seeds, is drawn thin in every panel.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(max(2.3 * columns, 6.4), 2.0 * rows + 1.1), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    low, high = _range(curves)
    for panel, axes in enumerate(panels.flat):
        if panel >= len(curves):
            axes.set_axis_off()
            continue
        name, curve = list(curves.items())[panel]
        _draw(axes, curve, None if name == reference else curves.get(reference or ""), reference)
        axes.set_title(f"{name}\n", loc="left", fontsize=9, fontweight="bold", color=INK)
        axes.text(0, 1.03, curve.note, transform=axes.transAxes, fontsize=7.5, color=SOFT)
        axes.set_ylim(low, high)
        tidy(axes)
        axes.tick_params(labelsize=7.5)
        if panel + columns >= len(curves):
            axes.set_xlabel("million tokens\nwith retrieval", fontsize=8, color=INK)
    handles = {
        text: line
        for axes in panels.flat
        for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=8.5,
    )
    figure.supylabel("validation bits per byte (lower is better)", fontsize=9, color=INK)
    save(figure, path, title, 11)


def _draw(axes: Axes, curve: Curve, other: Curve | None, name: str | None) -> None:
    millions = curve.tokens / 1e6
    if other is not None:
        within = other.tokens <= curve.tokens[-1]
        values = other.of(curve.seeds)[within]
        text = f"{label('on')} of {name}"
        axes.plot(other.tokens[within] / 1e6, values, color="#9aa0a6", linewidth=1.1, label=text)
    if curve.level is not None:
        style = STYLES["baseline"]
        axes.axhline(curve.level, color=style["color"], linewidth=1.1, label=label("baseline"))
    for condition in curve.bpb:
        values = curve.centred(condition)
        style = STYLES[condition] | {"markersize": 3, "label": label(condition)}
        axes.fill_between(
            millions,
            values.min(axis=0),
            values.max(axis=0),
            color=style["color"],
            alpha=0.25,
            linewidth=0,
        )
        axes.plot(millions, values.mean(axis=0), **style)
    axes.set_xlim(0, millions[-1] * 1.04)
    ticks = [0, _two_digits(millions[-1] / 2), _two_digits(millions[-1])]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _range(curves: Mapping[str, Curve]) -> tuple[float, float]:
    """Shared limits; from scratch, what lies high above all baselines at first is cut off."""
    drawn = [c.centred(condition) for c in curves.values() for condition in c.bpb]
    late = [values[:, values.shape[1] // 2 :] for values in drawn]
    levels = [c.level for c in curves.values() if c.level is not None]
    shown = np.concatenate([np.array(levels), *(values.ravel() for values in late)])
    margin = MARGIN * (shown.max() - shown.min())
    return float(shown.min() - margin), float(shown.max() + margin)


def _two_digits(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value))) if value > 0 else 0.0

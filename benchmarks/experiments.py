"""Experiments on one finished run, of which each is a row of evaluations and a figure.

    python benchmarks/experiments.py runs/tiny-bm25-k2-s1-d64cf24b
    python benchmarks/experiments.py runs/tiny-bm25-k2-s1-d64cf24b neighbours
    python benchmarks/experiments.py --draw

Each point is an evaluation with other settings; its figures go into benchmarks/experiments.json as
soon as they are there, so a stopped command goes on with the next point. `--draw` draws the figures
of the points in the file, without a run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Leakage
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.plots import INK, STYLES, save, tidy

HERE = Path(__file__).resolve().parent
FIGURES = HERE.parent / "docs" / "figures"
_ALPHAS = {"all": UNFILTERED, "leak_free": LEAK_FREE_ALPHA}


@dataclass(frozen=True)
class Experiment:
    """A row of evaluations.

    Attributes:
        values: of the setting that varies.
        overrides: of `evaluate.py` for a value.
        axis: what the values are.
        shown: conditions whose difference from the plain model is drawn.
    """

    values: Sequence[float]
    overrides: Callable[[float], list[str]]
    axis: str
    shown: Sequence[str]


EXPERIMENTS = {
    "neighbours": Experiment(
        (1, 2, 4, 8, 16),
        lambda k: [f"eval.k={k:g}", "memory=none", "eval.random=false"],
        "neighbours read at evaluation (trained with 2)",
        ("on",),
    ),
    "database": Experiment(
        (0.05, 0.1, 0.25, 0.5, 1),
        lambda share: ["database=train", f"database.fraction={share:g}", "eval.random=false"],
        "share of the training documents that is searched",
        ("on", "plain_memory"),
    ),
}


def figures_of(results: Results) -> dict[str, Any]:
    """What is kept of a point: bits per byte, and differences from the plain model."""
    scores = results.metrics[results.evaluation.split]
    found: dict[str, Any] = {"bpb": {name: round(score.bpb, 5) for name, score in scores.items()}}
    for name in scores:
        for part, alpha in _ALPHAS.items():
            difference = _difference(results, name, alpha, part)
            if difference is not None:
                found[f"{name} minus plain, {part}"] = difference
    return found


def _difference(results: Results, name: str, alpha: float, part: str) -> list[float] | None:
    """Change in bits per byte, its interval, and the number of documents.

    A memory's leak-free part is that of runs shared with any text it reads.
    """
    leakage: Leakage | None = results.leakage
    if "memory" in name:
        leakage = results.memory and results.memory.exact
    found = None if leakage is None else leakage.difference(name, "plain", alpha)
    if found is None or found.delta_bpb is None or found.low is None or found.high is None:
        return None
    return [*(round(x, 5) for x in (found.delta_bpb, found.low, found.high)), found.documents]


def measure(
    evaluate: Callable[..., Results], names: Sequence[str], record: Path, run: str
) -> dict[str, Any]:
    """Evaluates the points that the record lacks, and returns the record.

    Args:
        evaluate: takes overrides, as `Run.evaluate`.
        run: name of the run; points of another run are measured anew.
    """
    known = json.loads(record.read_text()) if record.is_file() else {}
    if known.get("run") != run:
        known = {"run": run, "points": {}}
    for name in names:
        experiment = EXPERIMENTS[name]
        points = known["points"].setdefault(name, {})
        for value in experiment.values:
            if f"{value:g}" not in points:
                points[f"{value:g}"] = figures_of(evaluate(*experiment.overrides(value)))
                record.write_text(json.dumps(known, indent=1) + "\n")
    return known


def draw(known: Mapping[str, Any], folder: Path) -> None:
    """Draws each experiment: all chunks on the left, the leak-free part on the right."""
    for name, points in known["points"].items():
        experiment = EXPERIMENTS[name]
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        axes = figure.subplots(1, 2)
        for axis, (part, title) in zip(
            axes, (("all", "all chunks"), ("leak_free", "without leakage")), strict=True
        ):
            for condition in experiment.shown:
                rows = {
                    float(value): point[f"{condition} minus plain, {part}"]
                    for value, point in points.items()
                    if f"{condition} minus plain, {part}" in point
                }
                if rows:
                    colour = STYLES.get(condition, STYLES["oracle"])["color"]
                    middle, low, high, _ = zip(*rows.values(), strict=True)
                    axis.plot(list(rows), middle, marker="o", color=colour, label=label(condition))
                    axis.fill_between(list(rows), low, high, color=colour, alpha=0.15)
            axis.axhline(0, color=INK, linewidth=1)
            axis.set_xscale("log", base=2)
            axis.set_xticks(experiment.values, [f"{value:g}" for value in experiment.values])
            axis.set_title(title, fontsize=10)
            axis.set_xlabel(experiment.axis, fontsize=9)
            tidy(axis)
        axes[0].set_ylabel("bits per byte")
        axes[0].legend(fontsize=9)
        save(figure, folder / f"experiment_{name}.png", f"{name}: bits per byte minus plain")


def main() -> None:
    """Measures and draws what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("names", nargs="*", help=", ".join(EXPERIMENTS))
    parser.add_argument("--json", type=Path, default=HERE / "experiments.json")
    parser.add_argument("--draw", action="store_true")
    asked = parser.parse_args()
    if asked.run is not None:
        import retro_lab as rl

        run = rl.load(asked.run)
        known = measure(run.evaluate, asked.names or list(EXPERIMENTS), asked.json, run.path.name)
    else:
        known = json.loads(asked.json.read_text())
    draw(known, FIGURES)


if __name__ == "__main__":
    main()

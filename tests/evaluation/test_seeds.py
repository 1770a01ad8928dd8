"""Contract of statistics over seeds: runs that differ in their seed alone are one group, the t
interval covers the true mean as often as it says, and one seed claims no interval."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from retro_lab.evaluation.measure.leakage import Difference
from retro_lab.evaluation.measure.metrics import Score
from retro_lab.evaluation.measure.seeds import by_settings, spread
from retro_lab.evaluation.report.sweep import SweepRow
from retro_lab.evaluation.report.sweep_plot import bar, plot_sweep, reference_scores
from retro_lab.evaluation.report.sweep_tables import group_table, in_words, parts
from retro_lab.evaluation.report.table import Table


def row(settings: str, seed: int, bpb: float, k: int = 2) -> SweepRow:
    score = Score(bpb * math.log(2) * 1000, 300, 1000)
    base = Score(2.3 * math.log(2) * 1000, 300, 1000)
    paired = Difference("on", "baseline", 1.0, bpb - 2.3, bpb - 2.4, bpb - 2.2, 9)
    of_run = (f"{settings}{seed}", "bm25", "tiny", "retrofit", 64, "mid", seed, k)
    measured = ("python", "test", 256, "any training text (exact)")
    cost = (60.0 * seed, 1e12)
    own = json.dumps([{"own": settings}])
    return SweepRow(*of_run, score, base, paired, None, *measured, own, *cost)


def test_seeds_of_the_same_settings_are_one_group() -> None:
    rows = [row("b", 1, 2.1, 4), row("a", 2, 2.3), row("a", 1, 2.1), row("a", 3, 2.2)]
    first, second = by_settings(rows)
    assert [r.seed for r in first.rows] == [1, 2, 3]
    assert first.bpb.mean == pytest.approx(2.2)
    assert first.best.seed == 1
    assert first.seconds == pytest.approx(120)
    assert first.flops == 1e12
    assert first.gain is not None
    assert first.gain.mean == pytest.approx(-0.1)
    assert first.leak_free is None
    # Student's t with two degrees of freedom: 4.3027 standard errors of 0.1 / sqrt(3).
    assert first.bpb.high == pytest.approx(2.2 + 4.302653 * 0.1 / math.sqrt(3))
    assert (second.bpb.low, second.bpb.high) == (None, None)
    [part] = parts([*first.rows, *second.rows])
    assert "1 of 2 have one seed" in in_words(part)
    assert "One seed each" in in_words(replace(part, rows=second.rows))
    assert "A choice made on the test split is no estimate of it" in in_words(part)


def test_bars_of_a_plot_are_of_one_kind() -> None:
    several, one = by_settings([row("a", 1, 2.1), row("a", 2, 2.3), row("b", 1, 2.2, 4)])
    assert bar(several, seeds=True) == (several.bpb.low, several.bpb.high)
    assert bar(one, seeds=True) == (None, None), "over documents, among bars over seeds"
    assert bar(one, seeds=False) == pytest.approx((2.1, 2.3))


def test_a_group_with_a_figure_missing_has_no_mean_of_it() -> None:
    rows = [row("a", 1, 2.1), replace(row("a", 2, 2.2), difference=None, flops=None)]
    (group,) = by_settings(rows)
    assert (group.gain, group.flops) == (None, None)


def test_runs_without_recorded_settings_stay_apart() -> None:
    rows = [replace(row("a", seed, 2.0), settings=None) for seed in (1, 2)]
    assert len(by_settings(rows)) == 2


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_interval_covers_the_mean_as_often_as_it_says(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    trials, covered = 1500, 0
    for values in rng.normal(2.0, 0.05, (trials, seeds)):
        found = spread(values.tolist())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 2.0 <= found.high
    assert covered / trials == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / trials))


def table_of(rows: list[SweepRow]) -> tuple[Table, dict[str, str]]:
    [part] = parts(rows)
    found = group_table(part)
    return found, dict(zip(found.heads, found.rows[0], strict=True))


def test_cells_show_mean_interval_best_and_cost() -> None:
    table, found = table_of([row("a", 1, 2.1), row("a", 2, 2.3)])
    assert "seed" not in table.heads
    assert found["seeds"] == "2"
    assert found["bits/byte"].startswith("2.2000 ± ")
    assert found["on - baseline all chunks"].startswith("-0.1000 ± ")
    assert found["best seed"] == "2.1000"
    assert found["FLOPs"] == "1e+12"
    assert found["time"] == "90 s"


def test_splits_and_what_is_compared_with_are_parts_of_their_own() -> None:
    plain = Score(2.2 * math.log(2) * 1000, 300, 1000)
    rows = [
        row("a", 1, 2.1),
        replace(row("b", 1, 2.3), split="validation"),
        replace(row("c", 1, 2.0), plain=plain),
        replace(row("d", 1, 2.3, 0), difference=None, baseline=None),
    ]
    found = parts(rows, "-bpb")
    assert [part.name for part in found] == [
        "validation split, against the baseline",
        "test split",
        "test split, against the baseline",
    ]
    assert [[r.run_key for r in part.rows] for part in found] == [["b1"], ["d1", "c1"], ["a1"]]
    assert "on - plain all chunks" in group_table(found[1]).heads
    assert "on - plain all chunks" not in group_table(found[2]).heads
    assert "has read fewer training tokens" in in_words(found[2])


def test_a_gain_over_other_models_is_no_mean() -> None:
    plain = Score(2.2 * math.log(2) * 1000, 300, 1000)
    [group] = by_settings([row("a", 1, 2.1), replace(row("a", 2, 2.3), plain=plain)])
    assert group.gain is None


def test_a_plot_takes_baselines_together_only_if_they_are_seeds_of_one_experiment() -> None:
    rows = [with_baseline("a", 1, 2.0), with_baseline("a", 2, 2.2)]
    [(name, found)] = reference_scores(rows)
    assert (name, found.mean) == ("baseline", pytest.approx(2.1))
    assert found.low is not None
    trained_otherwise = with_baseline("c", 1, 3.0)
    apart = reference_scores([*rows, trained_otherwise])
    assert [found.mean for _, found in apart] == pytest.approx([2.0, 2.2, 3.0])
    assert all(found.low is None for _, found in apart)


def with_baseline(settings: str, seed: int, bpb: float) -> SweepRow:
    return replace(row(settings, seed, 2.1), baseline=Score(bpb * math.log(2) * 1000, 300, 1000))


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_plot_of_seeds_is_deterministic(tmp_path, name: str) -> None:
    rows = [row(s, seed, 2.1 + 0.01 * seed, k) for s, k in (("a", 1), ("b", 2)) for seed in (1, 2)]
    written = []
    for order in (1, -1):
        plot_sweep(rows[::order], tmp_path / name, title="Seeds")
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert written[0][:4] in (b"\x89PNG", b"<?xm")

"""Contract: loggers get every figure of an evaluation under a name that says what it is, and a gain
is said only of the plain model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from retro_lab.evaluation.measure.leakage import LEAK_FREE_ALPHA, UNFILTERED, Difference, analyse
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.figures import curve_table, figures
from retro_lab.evaluation.records.results import DataCounts, EvaluationSettings, Results

ALPHAS = [0.001, LEAK_FREE_ALPHA, UNFILTERED]


@pytest.fixture
def results(make_table: Callable[..., ChunkTable]) -> Results:
    table = make_table()
    fewer = {name: nats for name, nats in table.nats.items() if name != "plain"}
    table = dataclasses.replace(table, nats=fewer)
    return Results(
        run_key="0" * 64,
        config={},
        lineage={},
        environment={},
        data=DataCounts(1, 1, 1, 1),
        evaluation=EvaluationSettings("validation", 256, 128, None),
        metrics={"validation": {name: table.score(name) for name in table.nats}},
        leakage=analyse(table, ALPHAS, "own_neighbours (bm25)", Bootstrap(50, 0.95, 0)),
        timing={},
    )


def with_plain(results: Results) -> Results:
    extra = [
        Difference("on", "plain", UNFILTERED, -0.1, -0.2, -0.05, 30),
        Difference("on", "plain", LEAK_FREE_ALPHA, 0.03, None, None, 3),
    ]
    leakage = results.leakage
    leakage = dataclasses.replace(leakage, differences=[*leakage.differences, *extra])
    return dataclasses.replace(results, leakage=leakage)


def test_every_condition_has_its_figures_under_the_split(results: Results) -> None:
    found = figures(results)
    for condition, score in results.metrics["validation"].items():
        name = f"validation/{condition}"
        of_one = (found[f"{name}/bpb"], found[f"{name}/ppl"], found[f"{name}/nats"])
        assert of_one == (score.bpb, score.ppl, score.loss)


def test_without_a_plain_model_the_difference_is_not_called_a_gain(results: Results) -> None:
    found = figures(results)
    assert not [name for name in found if "gain" in name]
    for alpha, suffix in ((UNFILTERED, ""), (LEAK_FREE_ALPHA, "_without_leakage")):
        difference = results.leakage.difference("on", "baseline", alpha)
        assert difference is not None
        name = f"validation/on_minus_baseline{suffix}"
        of_one = tuple(found[f"{name}/{end}"] for end in ("bpb", "low", "high"))
        assert of_one == (difference.delta_bpb, difference.low, difference.high)


def test_a_gain_is_on_minus_plain_and_what_was_not_measured_is_left_out(results: Results) -> None:
    found = figures(with_plain(results))
    gain = {name: value for name, value in found.items() if "/gain" in name}
    assert gain == {
        "validation/gain/bpb": -0.1,
        "validation/gain/low": -0.2,
        "validation/gain/high": -0.05,
        "validation/gain_without_leakage/bpb": 0.03,
    }


def test_the_curve_is_a_table_of_numbers(results: Results) -> None:
    heads, rows = curve_table(with_plain(results).leakage)
    table = [dict(zip(heads, row, strict=True)) for row in rows]
    assert [row["alpha"] for row in table] == ALPHAS
    assert {type(cell) for row in rows for cell in row} <= {int, float, type(None)}
    assert table[-1]["on"] == results.metrics["validation"]["on"].bpb
    assert (table[-1]["on_minus_plain"], table[-1]["on_minus_plain_high"]) == (-0.1, -0.05)
    assert table[0]["on_minus_plain"] is None, "that was not measured at this alpha"

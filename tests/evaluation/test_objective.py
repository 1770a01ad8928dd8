"""Contract: an optimiser minimises the score of the run with all that it reads, its memory too, or
that score minus the plain model's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
from composed import config_of

from retro_lab.config.errors import UserError
from retro_lab.config.rules import check_choosing
from retro_lab.config.schema import Config, Objective
from retro_lab.evaluation.measure.leakage import UNFILTERED, analyse
from retro_lab.evaluation.measure.metrics import Score
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.objective import objective
from retro_lab.evaluation.records.results import DataCounts, EvaluationSettings, Results

RETRO = {"baseline": 3.0, "plain": 2.5, "on": 2.25}
CHOICE = "eval.split=validation"


@pytest.fixture
def scored(make_table: Callable[..., ChunkTable]) -> Callable[..., Results]:
    """Results whose conditions have these bits per byte."""
    leakage = analyse(make_table(), [UNFILTERED], "own_neighbours", Bootstrap(2, 0.95, 0))

    def results(**bits: float) -> Results:
        scores = {name: Score(x * math.log(2), 1, 1) for name, x in bits.items()}
        return Results(
            run_key="0" * 64,
            config={},
            lineage={},
            environment={},
            data=DataCounts(1, 1, 1, 1),
            evaluation=EvaluationSettings("validation", 256, 128, None),
            metrics={"validation": scores},
            leakage=leakage,
            timing={},
        )

    return results


@pytest.mark.parametrize(
    ("bits", "own", "gain"),
    [
        (RETRO, 2.25, -0.25),
        (RETRO | {"memory": 1.5, "plain_memory": 1.75, "memory_random": 2.0}, 1.5, -1.0),
        (RETRO | {"cache": 2.0}, 2.0, -0.5),
        (RETRO | {"memory": 1.5, "cache": 2.0, "memory_cache": 1.25}, 1.25, -1.25),
        ({"baseline": 3.0, "memory": 1.5}, 1.5, -1.5),
    ],
)
def test_the_run_is_judged_with_all_that_it_reads(
    scored: Callable[..., Results], bits: dict[str, float], own: float, gain: float
) -> None:
    assert objective(scored(**bits)) == pytest.approx(own)
    assert objective(scored(**bits), Objective.gain) == pytest.approx(gain)


@pytest.mark.parametrize(
    "bits", [{"baseline": 3}, {"on": 2}, {"baseline": 3, "on": 2, "memory": 1}]
)
def test_a_gain_needs_a_model_to_compare_with(
    scored: Callable[..., Results], bits: dict[str, float]
) -> None:
    with pytest.raises(UserError, match="no score of a plain model"):
        objective(scored(**bits), Objective.gain)


def test_a_gain_may_be_searched_where_there_is_one() -> None:
    def gain_of(*more: str) -> Config:
        return dataclasses.replace(config_of(CHOICE, *more), objective=Objective.gain)

    check_choosing(gain_of())
    check_choosing(gain_of("retriever=none"))
    for none in (["retriever=none", "memory=none"], ["plain=none"]):
        with pytest.raises(UserError, match="this run has none"):
            check_choosing(gain_of(*none))

"""Contract of the metric: sums add up, figures derive from sums (never a mean of means), an empty
sum gives no figure, and the training metric agrees with the score of an evaluation."""

from __future__ import annotations

import math

import orjson
import pytest
import torch

from retro_lab.evaluation.measure.metrics import Score
from retro_lab.evaluation.measure.sum_metric import SumMetric


def test_figures_follow_their_definitions() -> None:
    score = Score(nats=8 * math.log(2), tokens=4, bytes=16)
    assert score.loss == 2 * math.log(2)
    assert score.ppl == pytest.approx(4.0)
    assert score.bpb == pytest.approx(0.5)


def test_sums_add_and_weigh_by_tokens() -> None:
    total = Score(1.0, 1, 10) + Score(9.0, 9, 30)
    assert total == Score(10.0, 10, 40)
    assert total.loss == 1.0


def test_an_empty_score_has_no_figures() -> None:
    sums, figures = {"nats": 0.0, "tokens": 0, "bytes": 0}, ["loss", "ppl", "bpb"]
    assert Score().as_dict() == sums | dict.fromkeys(figures)
    assert math.isnan(Score().bpb)


def test_a_huge_loss_is_infinite_perplexity_and_null_in_json() -> None:
    score = Score(nats=1e6, tokens=1, bytes=1)
    assert score.ppl == math.inf
    assert orjson.loads(orjson.dumps(score.as_dict()))["ppl"] is None


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for length in range(1, count + 1):
        nats = torch.rand(2, length, generator=generator)
        targets = torch.randint(0, 5, (2, length), generator=generator)
        targets[0, ::2] = -100
        made.append((nats, targets, torch.randint(0, 4, (2, length), generator=generator)))
    return made


def expected(count: int) -> Score:
    total = Score()
    for nats, targets, num_bytes in batches(count):
        kept = targets != -100
        nats_sum = nats[kept].double().sum().item()
        total += Score(nats_sum, int(kept.sum()), int(num_bytes[kept].sum()))
    return total


def test_training_metric_equals_score() -> None:
    metric = SumMetric()
    for batch in batches(9):
        metric.update(*batch)
    score = expected(9)
    assert metric.score().as_dict() == pytest.approx(score.as_dict())
    computed = {name: value.item() for name, value in metric.compute().items()}
    assert computed == pytest.approx({"loss": score.loss, "ppl": score.ppl, "bpb": score.bpb})


def test_training_metric_ignores_what_is_not_scored() -> None:
    metric = SumMetric()
    nats = torch.tensor([[1.0, math.nan]])
    metric.update(nats, torch.tensor([[3, -100]]), torch.tensor([[2, 7]]))
    assert metric.score() == Score(1.0, 1, 2)


def test_training_metric_sums_over_ranks() -> None:
    ranks = SumMetric(), SumMetric()
    for number, batch in enumerate(batches(9)):
        ranks[number % 2].update(*batch)
    ranks[0].merge_state(ranks[1])
    assert ranks[0].score().as_dict() == pytest.approx(expected(9).as_dict())


def test_training_metric_keeps_small_nats_beside_a_large_sum() -> None:
    metric = SumMetric()
    one = torch.ones(1, 1, dtype=torch.long)
    metric.update(torch.full((1, 1), 2.0**25), one, one)
    for _ in range(3):
        metric.update(torch.ones(1, 1), one, one)
    mixed = torch.tensor([[2.0**25, 1.0, 1.0, 1.0]])
    metric.update(mixed, torch.ones_like(mixed).long(), torch.ones_like(mixed))
    assert metric.score().nats == 2.0**26 + 6
    metric.reset()
    assert metric.score() == Score()

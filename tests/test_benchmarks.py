"""Contract: the benchmark's figures are those that the goals are stated in."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from retro_lab.evaluation.measure.leakage import Difference
from retro_lab.evaluation.measure.metrics import Score

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _beside_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_figures_come_from_what_was_measured() -> None:
    import model

    def seconds(wall: float, cpu: float) -> dict[str, float]:
        return {"wall": wall, "cpu": cpu}

    steps = {
        "ours": seconds(2.0, 4.0),
        "ours, compiled": seconds(1.0, 1.0),
        "retro-pytorch": seconds(5.0, 9.0),
        "retro-pytorch, compiled": seconds(1.0, 1.0),
        "labml-nn": seconds(4.0, 10.0),
        "ours, retrieval off": seconds(1.0, 2.0),
        "gemm": seconds(2e11, 1e11),
    }
    speed = {"ours": 300.0, "retro-pytorch": 5.0, "labml-nn": 10.0}
    generation = {name: {384: {"tokens_per_second": speed[name]}} for name in speed}
    peak = {"ours": 1.0, "retro-pytorch": 4.0, "labml-nn": 2.0}
    report = {"steps": {2: steps}, "generation": generation, "peak_bytes": peak}
    found = model.goals(report, threads=2)
    assert found["step_ratio_vs_fastest_peer"] == 2.0
    assert found["step_ratio_vs_fastest_peer_cpu"] == 2.25
    assert found["memory_ratio_vs_leanest_peer"] == 0.5
    assert found["generation_ratio_at_384"] == 30.0
    assert found["retrieval_share_of_time"] == 0.5
    assert found["gemm_share"] == pytest.approx(found["step_flops"] / 2.0 / 2e11)


def test_our_generation_reads_the_neighbours_that_a_forward_pass_reads() -> None:
    from contenders import CHUNK, NEIGHBOUR, VOCABULARY, Ours, Shape

    torch.manual_seed(0)
    ours = Ours(Shape(length=192, width=32, layers=2, batch=1))
    model = ours.model.eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randint(1, VOCABULARY, (1, 60))
    neighbours = torch.randint(1, VOCABULARY, (1, 3, 2, NEIGHBOUR))
    state, written = ours.start(tokens, neighbours), tokens
    with torch.no_grad():
        for _ in range(10):
            token = model(written, neighbours[:, : written.shape[1] // CHUNK])[:, -1:].argmax(-1)
            assert torch.equal(token, state[0])
            written = torch.cat((written, token), dim=1)
            state = ours.continue_(state, neighbours)


def test_alarms_are_counted_on_the_same_chunks_with_and_without_a_copy() -> None:
    from detector_figures import THRESHOLDS, counted

    document, clean = np.array([0, 0, 1, 1, 2]), np.array([True, True, True, True, False])
    before, after = np.array([0.1, 0.9, 0.2, 0.3, 1.0]), np.array([0.95, 0.2, 0.9, 0.3, 1.0])
    nothing, planted = dict.fromkeys(THRESHOLDS, before), dict.fromkeys(THRESHOLDS, after)
    found = counted(nothing, {"0": planted}, clean, document)
    assert (found["clean_chunks"], found["clean_documents"], found["documents"]) == (4, 2, 3)
    embedding = found["detectors"]["embedding"]
    assert (embedding["alarms_clean"], embedding["alarms_all"]) == (1, 2)
    edit = embedding["edits"]["0"]
    assert (edit["found"], edit["only_with_copy"], edit["only_without"]) == (2, 2, 1)
    assert edit["found_at_1_percent"] == 1  # above 0.9, the highest without a copy
    assert 0 <= edit["low"] <= 0.5 <= edit["high"] <= 1


def test_an_experiment_goes_on_with_the_points_that_are_missing(tmp_path: Path) -> None:
    """And measures all of them anew on another run."""
    from experiments import EXPERIMENTS, draw, measure

    asked: list[str] = []

    def evaluate(*overrides: str) -> SimpleNamespace:
        asked.append(overrides[0])
        difference = Difference("on", "plain", 1.0, -0.1, -0.2, -0.05, 12)
        return SimpleNamespace(
            metrics={"test": {"on": Score(10.0, 5, 20), "plain": Score(12.0, 5, 20)}},
            evaluation=SimpleNamespace(split="test"),
            leakage=SimpleNamespace(
                difference=lambda a, b, alpha: difference if a == "on" else None
            ),
            memory=None,
        )

    record = tmp_path / "experiments.json"
    values = EXPERIMENTS["neighbours"].values
    known = measure(evaluate, ["neighbours"], record, "a")  # type: ignore[arg-type]
    assert len(asked) == len(values)
    assert known["points"]["neighbours"]["2"]["on minus plain, all"] == [-0.1, -0.2, -0.05, 12]
    del known["points"]["neighbours"]["4"]
    record.write_text(json.dumps(known))
    known = measure(evaluate, ["neighbours"], record, "a")  # type: ignore[arg-type]
    assert asked[len(values) :] == ["eval.k=4"]
    measure(evaluate, ["neighbours"], record, "b")  # type: ignore[arg-type]
    assert len(asked) == 2 * len(values) + 1
    draw(known, tmp_path)
    assert (tmp_path / "experiment_neighbours.png").stat().st_size > 5000

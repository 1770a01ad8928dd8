"""Contract: the benchmark's figures are those that the goals are stated in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap

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


def test_operations_of_a_search_follow_from_the_index_that_was_built() -> None:
    from worth import search_operations

    lists, flat = ({"factory": f, "tokens": 8000} for f in ("PCA8,IVF40,SQfp16", "Flat"))
    assert search_operations(lists, {"nprobe": 3}, 16) == 2 * 16 * (40 + 3 * 8000 / 40)
    assert search_operations(lists, {"nprobe": 99}, 16) == 2 * 16 * (40 + 8000)
    assert search_operations(flat, {"nprobe": 3}, 16) == 2 * 16 * 8000


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


def chunk_table(saving: float) -> ChunkTable:
    """Six documents of two chunks, of which RETRO saves nats on the copied second ones alone."""
    rows = np.arange(12)
    copied = rows % 2 == 1
    return ChunkTable(
        document_id=np.array([f"d{row // 2}" for row in rows], object),
        chunk_index=(rows % 2).astype(np.int32),
        tokens=np.full(12, 64),
        bytes=np.full(12, 200),
        with_retrieval=np.full(12, 64),
        nats={"on": 100.0 - saving * copied, "plain": np.full(12, 100.0)},
        neighbours=np.zeros((12, 1), np.int64),
        overlap=Overlap(np.where(copied, 40, 2).astype(np.int32), np.zeros(12, np.bool_)),
    )


def test_a_point_of_an_experiment_is_pooled_over_seeds_with_and_without_leaks() -> None:
    from experiment_points import figures_of

    found = figures_of({1: chunk_table(10.0), 2: chunk_table(30.0)})
    assert found["seeds"] == [1, 2]
    saved = -20.0 * 6 / (12 * 200 * math.log(2))
    all_chunks, leak_free = (found["minus_plain"]["on"][part] for part in ("all", "leak_free"))
    assert all_chunks[0] == pytest.approx(saved, abs=1e-5)
    assert all_chunks[1] < saved < all_chunks[2]  # of the seeds; the documents are alike
    assert leak_free == [0.0, 0.0, 0.0, 6]
    assert found["bpb"]["plain"] - found["bpb"]["on"] == pytest.approx(-saved, abs=2e-5)


def test_an_experiment_goes_on_with_the_points_that_are_missing(tmp_path: Path) -> None:
    """Also with those measured with fewer seeds; figures and tables come from the file."""
    from experiment_figures import draw, with_tables
    from experiment_list import EXPERIMENTS, Point
    from experiment_points import measure

    asked: list[tuple[str, int]] = []

    def scored(point: Point, seed: int) -> ChunkTable:
        asked.append((point.evaluate[0], seed))
        return chunk_table(10.0 * seed)

    record = tmp_path / "experiments.json"
    points = EXPERIMENTS["neighbours"].points
    known = measure(scored, ["neighbours"], record)
    assert asked == [(point.evaluate[0], seed) for point in points.values() for seed in (1, 2)]
    del known["neighbours"]["4"]
    known["neighbours"]["8"]["seeds"] = [1]
    record.write_text(json.dumps(known))
    asked.clear()
    known = measure(scored, ["neighbours"], record)
    assert asked == [("eval.k=4", 1), ("eval.k=4", 2), ("eval.k=8", 1), ("eval.k=8", 2)]
    assert list(known["neighbours"]) == list(points)
    assert draw("neighbours", known["neighbours"], tmp_path).stat().st_size > 5000
    page = "a\n<!-- figures of neighbours -->\nold\n<!-- end -->\nb"
    assert "| 16 | 2 |" in with_tables(page, known)
    assert "old" not in with_tables(page, known)


def test_the_tables_of_the_experiments_are_those_of_their_record() -> None:
    from experiment_figures import with_tables

    page = (BENCHMARKS.parent / "docs" / "experiments.md").read_text(encoding="utf-8")
    known = json.loads((BENCHMARKS / "experiments.json").read_text())
    assert with_tables(page, known) == page
    assert all(f"<!-- figures of {name} -->" in page for name in known)

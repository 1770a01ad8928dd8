"""Contract of `memory.joint`: a run of its own with its own weights, trained on as many tokens as
one without, that every evaluation opens like any other; an evaluation trains nothing.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from golden import Golden, results_of

from retro_lab.commands.evaluate import main
from retro_lab.config.schema import EvaluateConfig, MemoryConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.run.directory import RunDirectory
from retro_lab.training.loggers import METRICS, read_metrics

SETTINGS = ("memory=suffix_topic", "memory.gate_tokens=2000", "eval.bootstrap_samples=50")


@pytest.fixture(scope="module")
def joint(golden: Golden) -> RunDirectory:
    return golden.run("retriever=none", *SETTINGS, "memory.joint=0.4", "eval.random=false")


def test_it_is_trained_on_as_many_tokens(
    joint: RunDirectory, golden: Golden, finished: RunDirectory
) -> None:
    baseline = golden.baseline()
    assert joint.path != baseline.path
    weights, without = joint.weights(), baseline.weights()
    assert weights.keys() == without.keys()
    assert not torch.equal(weights["embedding.weight"], without["embedding.weight"])
    ours, theirs = (read_metrics(run.path / METRICS) for run in (joint, baseline))
    last = [max(record["tokens_seen"] for record in each) for each in (ours, theirs)]
    assert last[0] == last[1]


def test_it_is_scored_like_any_run(joint: RunDirectory) -> None:
    table = ChunkTable.load(joint.chunks_file)
    assert set(table.nats) == {"baseline", "memory"}
    assert table.nats["memory"].sum() < table.nats["baseline"].sum()
    asked = dataclasses.replace(joint.config().eval, bootstrap_samples=60)
    memory = MemoryConfig(name="suffix_topic", experts=["suffix", "topic"], gate_tokens=2_000)
    out = results_of(EvaluateConfig(run=str(joint.path), eval=asked, memory=memory))
    assert out == joint  # the same evaluation, though this one names no training
    again = ChunkTable.load(out.chunks_file)
    assert (again.nats["memory"] == table.nats["memory"]).all()


def test_an_evaluation_trains_nothing(
    joint: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"run={joint.path}", "memory=suffix_topic", "memory.joint=0.2"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "memory.joint=0.2: this run is trained already" in said

"""Contract of `memory=knn` and `memory=full`: each model's own states are searched, those of RETRO
with the neighbours that it reads; kNN-LM's stored states serve; and nothing else is built.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest
from golden import PLANTED, Golden, results_of

from retro_lab.config.errors import ConfigError
from retro_lab.config.schema import (
    CorpusDatabaseConfig,
    EvaluateConfig,
    JsonlCorpusConfig,
    MemoryConfig,
)
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.run.directory import RunDirectory

KNN = MemoryConfig(name="knn", experts=["knn"], gate_tokens=2_000)
FULL = MemoryConfig(name="full", experts=["suffix", "topic", "knn"], gate_tokens=2_000)


def evaluated(run: RunDirectory, memory: MemoryConfig, **more: object) -> RunDirectory:
    """Where an evaluation with a memory is; the command's other settings are `more`."""
    asked = dataclasses.replace(run.config().eval, bootstrap_samples=50, random=False)
    given = {"eval": asked} | more
    return results_of(EvaluateConfig(run=str(run.path), memory=memory, **given))  # type: ignore[arg-type]


def scored(run: RunDirectory, memory: MemoryConfig) -> ChunkTable:
    return ChunkTable.load(evaluated(run, memory).chunks_file)


def of_baseline(copy: RunDirectory, golden: Golden) -> RunDirectory:
    return RunDirectory(copy.path.parent / golden.baseline().path.name)


def stored(golden: Golden, stage: str) -> dict[str, dict]:
    """The manifest of each result of a stage, by key."""
    found = (golden.folder / "store" / stage).glob("*/manifest.json")
    return {path.parent.name: orjson.loads(path.read_bytes()) for path in found}


def test_each_model_has_states_of_its_own(copy: RunDirectory, golden: Golden) -> None:
    before = {stage: set(stored(golden, stage)) for stage in ("token_states", "contexts")}
    by_expert = dataclasses.replace(copy.config().eval, bootstrap_samples=50, by_expert=True)
    out = evaluated(copy, FULL, eval=by_expert)
    table = ChunkTable.load(out.chunks_file)
    for name in ("memory_knn", "memory_without_knn", "memory_random", "plain_memory"):
        assert np.isfinite(table.nats[name]).all()
    made = stored(golden, "token_states")
    new = [made[key] for key in made.keys() - before["token_states"]]
    read = sorted("neighbours" in manifest["parents"] for manifest in new)
    assert read == [False, True]  # of the plain model and of RETRO[ON]
    contexts = stored(golden, "contexts")
    tokens = Results.load(out.results_file).memory
    assert tokens is not None
    assert {manifest["stats"]["tokens"] for manifest in new} == {tokens.tokens}
    assert tokens.tokens in {manifest["stats"]["tokens"] for manifest in contexts.values()}


def test_states_alone_recall_a_copy(copy: RunDirectory, golden: Golden) -> None:
    run = of_baseline(copy, golden)
    shutil.rmtree(golden.folder / "store" / "contexts", ignore_errors=True)
    states = set(stored(golden, "token_states"))
    out = evaluated(run, KNN)
    table = ChunkTable.load(out.chunks_file)
    assert not stored(golden, "contexts")  # none is sorted for it
    for key in stored(golden, "token_states").keys() - states:
        spec = stored(golden, "token_states")[key]["spec"]
        assert spec["fields"].keys() == {"split", "window", "stride"}  # as of kNN-LM, the rival
        assert spec["parents"].keys() == {"chunks"}
    planted = np.isin(table.document_id, PLANTED)
    gain = table.nats["baseline"] - table.nats["memory"]
    by_token = [gain[rows].sum() / table.tokens[rows].sum() for rows in (planted, ~planted)]
    assert by_token[0] > 0.3
    assert by_token[0] > 3 * by_token[1]
    results = Results.load(out.results_file)
    assert results.memory is not None
    assert results.memory.tokens > 0
    gates = stored(golden, "memory_gate")
    of_knn = [
        each["spec"] for each in gates.values() if "knn" in each["spec"]["fields"]["families"]
    ]
    for spec in of_knn:
        parents = {parent["stage"] for parent in spec["parents"].values()}
        assert {"token_states", "token_index"} <= parents
    assert of_knn
    out.forget_evaluation()
    out.chunks_file.unlink()
    again = scored(run, KNN)
    assert again.nats["memory"] == pytest.approx(table.nats["memory"], rel=1e-6)
    assert stored(golden, "memory_gate") == gates


def test_a_longer_match_than_max_run_is_not_read(copy: RunDirectory, golden: Golden) -> None:
    run = of_baseline(copy, golden)
    planted = np.isin(scored(run, KNN).document_id, PLANTED)
    gained = []
    for max_run in (None, 2):
        nats = scored(run, dataclasses.replace(KNN, max_run=max_run)).nats
        gained.append((nats["baseline"] - nats["memory"])[planted].sum())
    assert gained[1] < 0.5 * gained[0]


def test_another_database_is_refused(copy: RunDirectory, golden: Golden, tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    path.write_bytes(orjson.dumps({"id": "x", "text": "some more text"}) + b"\n")
    database = CorpusDatabaseConfig(
        name="corpus", corpus=JsonlCorpusConfig(name="jsonl", path=str(path))
    )
    for run in (copy, of_baseline(copy, golden)):
        with pytest.raises(ConfigError, match="memory=suffix_topic"):
            evaluated(run, KNN, database=database)

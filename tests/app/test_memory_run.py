"""Contract of `memory=`: it changes no run's name and no other score; its conditions stand in every
record; a gate is fitted once; a leak is seen by the exact filter; a larger database is read without
training; and bad settings are one message.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
from golden import PLANTED, Golden, evaluation_of, results_of
from small_corpus import CorpusSize, corpus_overrides, write_corpus

from retro_lab.commands.summary import show_results
from retro_lab.config.errors import ConfigError, UserError
from retro_lab.config.fingerprints import plain_of, run_key, steps_of
from retro_lab.config.rules import check
from retro_lab.config.schema import (
    Config,
    CorpusDatabaseConfig,
    EvaluateConfig,
    JsonlCorpusConfig,
    MemoryConfig,
    PlainConfig,
)
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.figures import figures
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.memory import MemoryScoring, check_gate_documents
from retro_lab.run.experiment import ensure_trained, run_experiment
from retro_lab.run.timing import Stopwatch

SUFFIX_TOPIC = MemoryConfig(name="suffix_topic", experts=["suffix", "topic"], gate_tokens=2_000)


def evaluated(run: RunDirectory, memory: MemoryConfig, **more: object) -> RunDirectory:
    """Where an evaluation with a memory is; the command's other settings are `more`."""
    given = {"eval": dataclasses.replace(run.config().eval, bootstrap_samples=50)} | more
    return results_of(EvaluateConfig(run=str(run.path), memory=memory, **given))  # type: ignore[arg-type]


def of_baseline(copy: RunDirectory, golden: Golden) -> RunDirectory:
    return RunDirectory(copy.path.parent / golden.baseline().path.name)


def test_it_adds_its_conditions_and_changes_no_other(
    copy: RunDirectory, golden: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ChunkTable.load(copy.chunks_file)
    by_expert = dataclasses.replace(
        copy.config().eval, bootstrap_samples=50, by_expert=True, tokens=True
    )
    memory = dataclasses.replace(SUFFIX_TOPIC, cache=True)
    out = evaluated(copy, memory, eval=by_expert)
    results, table = Results.load(out.results_file), ChunkTable.load(out.chunks_file)
    added = "memory memory_random memory_suffix memory_topic plain_memory cache plain_cache"
    assert set(table.nats) == {*before.nats, *added.split(), "memory_cache"}
    for name, nats in before.nats.items():
        assert (table.nats[name] == nats).all(), name
    tokens = TokenTable.load(out.tokens_file)
    for name in added.split():
        assert np.bincount(tokens.chunk_row, tokens.nats[name]) == pytest.approx(table.nats[name])
    assert table.exact is not None
    assert results.memory is not None
    assert results.memory.experts == ["suffix", "topic", "cache"]
    assert results.memory.exact is not None
    assert results.memory.tokens == sum(int(length) for length in _training_lengths(copy, golden))
    assert {"test/memory/bpb", "test/memory_gain/bpb"} <= set(figures(results))
    page = (out.path / "index.html").read_text()
    assert "A memory read at every token" in page
    show_results(out, verbose=True)
    shown = capsys.readouterr().out
    assert "plain with memory minus plain" in " ".join(shown.split())
    assert "Control:" in shown
    assert max(map(len, shown.splitlines())) <= 200


def _training_lengths(run: RunDirectory, golden: Golden) -> list[int]:
    chunks = golden.folder / "store" / "chunks" / run.lineage["chunks"]
    tokens, split = np.load(chunks / "tokens.npy"), np.load(chunks / "split.npy")
    meta = orjson.loads((chunks / "meta.json").read_bytes())
    text = (tokens != meta["pad_id"]) & (tokens != meta["boundary_id"])
    return text[split == 0].sum(axis=1).tolist()


def test_a_leak_is_seen_by_its_exact_filter(copy: RunDirectory) -> None:
    out = evaluated(copy, SUFFIX_TOPIC)
    results, table = Results.load(out.results_file), ChunkTable.load(out.chunks_file)
    assert table.exact is not None
    planted = np.isin(table.document_id, PLANTED) & (table.tokens > 10)
    assert (table.exact.longest_run[planted] >= 0.8 * table.tokens[planted]).mean() > 0.9
    gain = table.nats["plain"] - table.nats["plain_memory"]
    by_token = [gain[rows].sum() / table.tokens[rows].sum() for rows in (planted, ~planted)]
    assert by_token[0] > 2 * by_token[1]  # what was copied is what is recalled best
    assert results.memory is not None
    assert results.memory.exact is not None
    whole = results.memory.exact.difference("plain_memory", "plain", 1.0)
    left = results.memory.exact.difference("plain_memory", "plain", 0.5)
    assert whole is not None
    assert left is not None
    assert whole.delta_bpb is not None
    assert left.delta_bpb is not None
    assert whole.delta_bpb < left.delta_bpb - 0.05


def test_random_contexts_gain_nothing(copy: RunDirectory) -> None:
    table = ChunkTable.load(evaluated(copy, SUFFIX_TOPIC).chunks_file)
    bits = {name: nats.sum() / np.log(2) / table.bytes.sum() for name, nats in table.nats.items()}
    assert bits["on"] - 0.005 < bits["memory_random"] < bits["on"] + 0.1
    assert bits["memory"] < bits["on"] - 0.02


def test_it_is_scored_once_and_its_gate_is_fitted_once(copy: RunDirectory, golden: Golden) -> None:
    run = of_baseline(copy, golden)
    out = evaluated(run, SUFFIX_TOPIC)
    scores = ChunkTable.load(out.chunks_file).nats
    written = out.chunks_file.stat().st_mtime_ns
    assert evaluated(run, SUFFIX_TOPIC) == out
    assert out.chunks_file.stat().st_mtime_ns == written
    out.forget_evaluation()
    out.chunks_file.unlink()
    gates = sorted((golden.folder / "store" / "memory_gate").iterdir())
    evaluated(run, SUFFIX_TOPIC)
    assert sorted((golden.folder / "store" / "memory_gate").iterdir()) == gates
    again = ChunkTable.load(out.chunks_file).nats
    assert set(again) == {"baseline", "memory", "memory_random"}
    for name, nats in scores.items():
        assert again[name] == pytest.approx(nats, rel=1e-6), name


def test_without_one_an_evaluation_is_as_before(copy: RunDirectory, golden: Golden) -> None:
    run = of_baseline(copy, golden)
    before = ChunkTable.load(run.chunks_file).nats["baseline"]
    evaluated(run, SUFFIX_TOPIC)
    out = evaluated(run, MemoryConfig())
    assert Results.load(out.results_file).memory is None
    after = ChunkTable.load(out.chunks_file).nats
    assert set(after) == {"baseline"}
    assert (after["baseline"] == before).all()


def test_a_longer_match_than_max_run_is_not_read(copy: RunDirectory, golden: Golden) -> None:
    run = of_baseline(copy, golden)
    whole = ChunkTable.load(evaluated(run, SUFFIX_TOPIC).chunks_file)
    filtered = evaluated(run, dataclasses.replace(SUFFIX_TOPIC, max_run=2))
    short = ChunkTable.load(filtered.chunks_file)
    planted = np.isin(whole.document_id, PLANTED)
    gained = [(t.nats["baseline"] - t.nats["memory"])[planted].sum() for t in (whole, short)]
    assert gained[1] < 0.5 * gained[0]


def test_a_larger_database_is_read_without_training(
    copy: RunDirectory, golden: Golden, tmp_path: Path
) -> None:
    run = of_baseline(copy, golden)
    own = ChunkTable.load(evaluated(run, SUFFIX_TOPIC).chunks_file)
    records = [orjson.loads(line) for line in (golden.corpus / "corpus.jsonl").open("rb")]
    texts = {record["id"]: record["text"] for record in records}
    path = tmp_path / "more.jsonl"
    path.write_bytes(orjson.dumps({"id": "x", "text": "Preface. " + texts["test-03"]}) + b"\n")
    database = CorpusDatabaseConfig(
        name="corpus", corpus=JsonlCorpusConfig(name="jsonl", path=str(path))
    )
    larger = evaluated(run, SUFFIX_TOPIC, database=database)
    beside = evaluation_of(run.for_database(database), "leakage-memory_suffix_topic")
    assert larger == beside
    other = ChunkTable.load(larger.chunks_file)
    copied = np.isin(own.document_id, ["test-03"])
    assert other.nats["baseline"] == pytest.approx(own.nats["baseline"], rel=1e-6)
    assert other.nats["memory"][copied].sum() < 0.7 * own.nats["memory"][copied].sum()
    assert other.exact is not None
    assert (other.exact.longest_run[copied] >= 0.8 * other.tokens[copied]).mean() > 0.9


def test_scores_of_another_plain_model_or_seed_are_not_read(
    copy: RunDirectory, golden: Golden
) -> None:
    first = evaluated(copy, SUFFIX_TOPIC)
    assert Results.load(first.results_file).memory is not None
    before = ChunkTable.load(first.chunks_file).nats
    plain = PlainConfig(lr=0.5)
    config = golden.config("plain.lr=0.5")
    other = ensure_trained(
        "plain",
        plain_of(config, steps_of(config)),
        DataGraph(config).without_retrieval(),
        Stopwatch(),
    )
    shutil.copytree(other.path, copy.path.parent / other.path.name)
    out = evaluated(copy, SUFFIX_TOPIC, plain=plain)
    assert out != first
    after = ChunkTable.load(out.chunks_file).nats
    assert (after["memory"] == before["memory"]).all()
    assert (after["memory_random"] == before["memory_random"]).all()
    for name in ("plain", "plain_memory"):
        assert not np.allclose(after[name], before[name]), name
    seeded = dataclasses.replace(copy.config().eval, bootstrap_samples=50, seed=7)
    assert evaluated(copy, SUFFIX_TOPIC, plain=plain, eval=seeded) == out
    again = ChunkTable.load(out.chunks_file).nats
    assert not np.array_equal(again["memory_random"], after["memory_random"])


def test_scores_of_other_text_are_not_read(
    copy: RunDirectory, golden: Golden, tmp_path: Path
) -> None:
    run, path = of_baseline(copy, golden), tmp_path / "more.jsonl"
    database = CorpusDatabaseConfig(
        name="corpus", corpus=JsonlCorpusConfig(name="jsonl", path=str(path))
    )
    found = []
    for samples, text in enumerate(
        (
            "Nothing of it stands anywhere else.",
            (golden.corpus / "corpus.jsonl").read_text(),
        ),
        50,
    ):
        path.write_bytes(orjson.dumps({"id": "x", "text": text}) + b"\n")
        asked = dataclasses.replace(run.config().eval, bootstrap_samples=samples)
        larger = evaluated(run, SUFFIX_TOPIC, database=database, eval=asked)
        found.append(ChunkTable.load(larger.chunks_file).nats["memory"])
    assert not np.allclose(*found)


def test_a_gate_is_not_fitted_on_two_documents(golden: Golden, tmp_path: Path) -> None:
    def config(documents: int, *more: str) -> Config:
        folder = tmp_path / str(documents)
        folder.mkdir(exist_ok=True)
        write_corpus(folder, CorpusSize(80, (documents, 3, 2), (60, 60, 60), {}))
        own = ("retriever=none", f"runs_dir={folder}/runs", f"store.dir={folder}/store")
        return golden.config(*corpus_overrides(folder), *own, *more)

    two = config(2, "memory=suffix_topic")
    with pytest.raises(UserError, match="training split, which has 2 of them") as caught:
        run_experiment(two, Stopwatch())
    assert "memory.gate=shipped" in str(caught.value.fix)
    assert RunDirectory.of(two).state == "new", "nothing was trained"
    graph, nothing = DataGraph(two), cast(Any, None)
    with pytest.raises(UserError, match="has 2 of them"):
        MemoryScoring(two, graph, nothing, "baseline", nothing).gates([])
    for fine in (config(2, "memory=suffix_topic", "memory.gate=shipped"), config(2, "memory=none")):
        check_gate_documents(fine, graph)
    three = config(3, "memory=suffix_topic")
    check_gate_documents(three, DataGraph(three))


def test_it_is_no_part_of_a_run_and_bad_settings_are_one_message(golden: Golden) -> None:
    plain, read = golden.config(), golden.config("memory=suffix_topic", "memory.cache=true")
    assert run_key(read) == run_key(plain)
    bare, searched = (
        golden.config("retriever=none", *more)
        for more in ((), ("memory=suffix", "database=corpus", "database.corpus.path=x.jsonl"))
    )
    assert run_key(searched) == run_key(bare)
    for setting, words in {
        "memory.experts=[topic]": "needs suffix",
        "memory.experts=[words]": "must be some of",
        "memory.max_run=0": "memory.max_run",
        "memory.gate_tokens=1": "memory.gate_tokens",
    }.items():
        with pytest.raises(ConfigError, match=words):
            check(golden.config("memory=suffix_topic", setting))

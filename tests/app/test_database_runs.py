"""Contract of `database=`: the run's own data stages don't depend on it, what leaked may come from
training or from the database, and a trained run is scored against another one beside its results.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest
from golden import Golden
from run_stages import stages_of

from retro_lab.commands.evaluate import evaluate
from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    CorpusDatabaseConfig,
    DatabaseConfig,
    EvaluateConfig,
    JsonlCorpusConfig,
    PlantedDatabaseConfig,
    Reference,
)
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.probes import longest_runs


@pytest.fixture(scope="module")
def other(golden: Golden) -> Path:
    """Another corpus: a copy of a test document, and texts that stand nowhere else."""
    records = [orjson.loads(line) for line in (golden.corpus / "corpus.jsonl").open("rb")]
    texts = {record["id"]: record["text"] for record in records}
    found = [{"id": "copied", "text": texts["test-03"]}]
    found += [{"id": f"new-{i}", "text": texts[f"train-{i:02}"][::-1]} for i in range(12)]
    path = golden.folder / "other.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, found)) + b"\n")
    return path


def evaluated(run: RunDirectory, database: DatabaseConfig | None, **more: object) -> None:
    settings = dataclasses.replace(run.config().eval, bootstrap_samples=50, **more)  # type: ignore[arg-type]
    evaluate(EvaluateConfig(run=str(run.path), eval=settings, database=database))


@pytest.mark.parametrize(
    ("database", "key"),
    [
        (["database=corpus", "database.corpus.path={}"], "database.corpus."),
        (
            ["database=corpora", "+corpus@database.corpora.a=jsonl", "database.corpora.a.path={}"],
            "database.corpora.a.",
        ),
        (["database.add=[{}]"], "database.corpora.corpus."),
    ],
)
def test_a_mistake_in_another_corpus_names_the_key_that_mends_it(
    golden: Golden, database: list[str], key: str, tmp_path: Path
) -> None:
    path = tmp_path / "corpus.jsonl"
    overrides = [override.format(path) for override in database]
    with pytest.raises(UserError, match="no such file") as caught:
        stages_of(golden.config(*overrides))
    mended = "database.add" if "add" in database[0] else f"{key}path"
    assert f"{mended}={path}: no such file" in caught.value.message
    assert f"set {mended} to a file" in str(caught.value.fix)
    path.write_bytes(b'{"body": 1}\n')
    with pytest.raises(UserError, match=r": corpus\.jsonl, line 1: no field") as caught:
        _ = DataGraph(golden.config(*overrides)).searched.corpus
    assert f"{key}on_error=skip" in str(caught.value.fix)


def test_only_what_is_searched_enters_the_keys(golden: Golden, other: Path) -> None:
    plain = DataGraph(golden.config())
    there = DataGraph(golden.config("database=corpus", f"database.corpus.path={other}"))
    part = DataGraph(golden.config("database.fraction=0.5"))
    graphs = (plain, there, part)
    for nodes in ([g.own.corpus for g in graphs], [g.own.chunks for g in graphs]):
        assert len({node.stage.key for node in nodes}) == 1
    assert len({g.tokenizer.stage.key for g in graphs}) == 1
    assert len({g.index(g.groups.retriever).stage.key for g in graphs}) == 3
    nothing = golden.config("database=planted", "database.plant_share=0")
    assert [s.key for s in stages_of(nothing)] == [s.key for s in stages_of(golden.config())]


def test_the_tokenizer_is_the_runs_own(golden: Golden, other: Path) -> None:
    graph = DataGraph(golden.config("database=corpus", f"database.corpus.path={other}"))
    parents = graph.searched.others[0].chunks.stage.parents
    assert parents["tokenizer"] is graph.tokenizer.stage
    assert parents["corpus"] is not graph.own.corpus.stage


def test_all_text_that_could_have_leaked_is_compared(golden: Golden, other: Path) -> None:
    """The copied test document is found in the database, the planted ones in training text."""
    overrides = ["database=corpus", f"database.corpus.path={other}"]
    for reference in ("own_neighbours", "exact_corpus"):
        config = golden.config(*overrides, f"eval.reference={reference}")
        graph = DataGraph(config)
        chunks, runs = graph.own.chunks.data, longest_runs(graph, config)
        ids = np.array(graph.own.corpus.data.ids)[chunks.document[chunks.chunks_of("test")]]
        tokens = (chunks.token_bytes[chunks.chunks_of("test")] > 0).sum(axis=1)
        trained_on = np.isin(ids, ["planted-a", "planted-b"])
        assert (runs[trained_on] == tokens[trained_on]).all()
        # The exact search also finds the copy, which retrieval leaves out as the same document.
        if reference == "exact_corpus":
            assert (runs[ids == "test-03"] == tokens[ids == "test-03"]).all()
        prepared = DataGraph(config)
        assert prepared.table is not None
        read = prepared.table.ids[prepared.table.ids >= 0]
        assert (read >= prepared.chunks.own_chunks).all()


def test_a_run_is_scored_against_planted_documents(copy: RunDirectory) -> None:
    before = copy.results_file.read_bytes()
    database = PlantedDatabaseConfig(plant_share=1.0)
    evaluated(copy, database)
    assert copy.results_file.read_bytes() == before
    out = copy.for_database(database)
    results, table = Results.load(out.results_file), ChunkTable.load(out.chunks_file)
    own = Results.load(copy.results_file)
    assert results.run_key == own.run_key
    assert own.evaluation.database is not None
    assert own.evaluation.database.name == own.evaluation.database.trained_with
    searched = results.evaluation.database
    assert searched is not None
    assert searched.trained_with == own.evaluation.database.name != searched.name
    record = orjson.loads((out.path / "planted.json").read_bytes())
    assert searched.planted == record["planted"] == record["halves"]["first"]
    assert table.overlap is not None
    planted = np.isin(table.document_id, searched.planted)
    assert (table.overlap.longest_run == table.tokens)[planted].all()
    clean = np.isin(table.document_id, record["halves"]["second"])
    unplanted = ChunkTable.load(copy.chunks_file)
    for condition in ("off", "baseline"):
        assert np.array_equal(table.nats[condition], unplanted.nats[condition])
    assert not np.array_equal(table.nats["on"][planted], unplanted.nats["on"][planted])
    assert planted.any()
    assert clean.any()


def test_the_runs_own_database_by_name_is_its_own_evaluation(copy: RunDirectory) -> None:
    evaluated(copy, DatabaseConfig())
    assert not (copy.path / "databases").exists()


def test_a_changed_corpus_and_a_baseline_are_refused(
    copy: RunDirectory, golden: Golden, other: Path
) -> None:
    elsewhere = CorpusDatabaseConfig(corpus=JsonlCorpusConfig(path=str(other)))
    baseline = golden.baseline()
    with pytest.raises(UserError, match="is a baseline, it searches nothing"):
        evaluated(baseline, elsewhere)
    known = DataGraph(golden.config()).text_lineage
    copy.check_text(known)
    with pytest.raises(UserError, match="changed since the run began: chunks"):
        copy.check_text(known | {"chunks": "0" * 16})


def test_exact_overlap_of_a_searched_split_is_refused(copy: RunDirectory) -> None:
    with pytest.raises(UserError, match="its exact overlap says nothing"):
        evaluated(copy, DatabaseConfig(splits=["train", "test"]), reference=Reference.exact_corpus)

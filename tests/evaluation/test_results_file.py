"""Contract of results.json: the documented fields, a lossless round trip, atomic writes, clear
words about another version or a damaged file, and figures that chunks.parquet gives again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from older import without_checksums

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.leakage import analyse
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.environment import environment
from retro_lab.evaluation.records.results import (
    DataCounts,
    EvaluationSettings,
    Results,
    recompute,
    warnings,
)
from retro_lab.evaluation.report.sweep import by_split, in_sweep_order, sweep_row, varying
from retro_lab.store.checksums import CHECKSUMS

CONFIG: dict[str, Any] = {
    "retriever": {"name": "bm25"},
    "model": {"name": "tiny"},
    "recipe": {"name": "retrofit"},
    "chunking": {"chunk_size": 64},
    "corpus": {"name": "jsonl", "path": "texts/manuals.jsonl.zst"},
    "cca": {"placement": "mid", "layers": None},
    "neighbours": {"k": 2},
    "seed": 1,
}
Make = Callable[..., ChunkTable]


@pytest.fixture
def results(make_table: Make) -> Results:
    table = make_table()
    return Results(
        run_key="0123456789abcdef",
        config=CONFIG,
        lineage={"chunks": "fedcba9876543210"},
        environment=environment(),
        data=DataCounts(documents=300, chunks=2000, tokens=100_000, bytes=300_000),
        evaluation=EvaluationSettings("test", 512, 256, table.retrieval_fraction),
        metrics={"test": {name: table.score(name) for name in table.nats}},
        leakage=analyse(table, [0.01, 0.125, 0.5, 1], "own_neighbours", Bootstrap(100)),
        timing={"score": 1.5, "train": 60.0},
    )


def test_round_trip_is_lossless_and_leaves_no_more_files(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.save(path)
    assert Results.load(path) == results
    first = path.read_bytes()
    Results.load(path).save(path)
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")
    assert {p.name for p in tmp_path.iterdir()} == {"results.json", CHECKSUMS}


def test_a_record_from_before_a_field_was_added_is_read(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.save(path)
    record = orjson.loads(path.read_bytes())
    for name in ("duplicates", "unread", "coverage", "recall_at_10", "spelt", "unknown"):
        del record["data"][name]
    without_checksums(tmp_path)
    path.write_bytes(orjson.dumps(record))
    assert Results.load(path) == results


@pytest.mark.parametrize(
    ("duplicates", "unread", "words"),
    [
        *((0, None, []), (3, 0, ["3 of 30", "word for word"])),
        (None, 2, ["2 of 30", "not longer", "none was found"]),
    ],
)
def test_what_is_wrong_with_the_data_is_said_with_counts(
    results: Results, duplicates: int | None, unread: int | None, words: list[str]
) -> None:
    data = replace(results.data, duplicates=duplicates, unread=unread)
    text = " ".join(warnings(replace(results, data=data)))
    assert bool(text) is bool(words)
    assert all(word in text for word in words)


def test_what_the_tokenizer_loses_by_itself_stands_beside_the_figures(results: Results) -> None:
    def said(**shares: float | None) -> str:
        return " ".join(warnings(replace(results, data=replace(results.data, **shares))))

    assert "NOTE: 12.30% of the test split's bytes are tokens of their own" in said(spelt=0.123)
    assert "NOTE: 0.40% of the test split's tokens stand for text" in said(unknown=0.004)
    assert said(spelt=0.0, unknown=None) == ""


def test_scores_of_the_training_text_are_said_to_be_that(results: Results) -> None:
    settings = replace(results.evaluation, split="train")
    (warning,) = warnings(replace(results, evaluation=settings))
    assert warning.startswith("WARNING: the scored split is the training text itself.")
    assert warnings(results) == []


def test_fields_are_the_documented_ones(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")
    record = orjson.loads((tmp_path / "results.json").read_bytes())
    assert record["schema_version"] == 1
    assert set(record) == {
        *("schema_version", "run_key", "config", "lineage", "environment", "data"),
        *("evaluation", "metrics", "leakage", "timing", "plain", "compressors"),
        *("memory", "custom"),
    }
    counts = {"documents", "chunks", "tokens", "bytes", "duplicates", "unread"}
    assert set(record["data"]) == counts | {"coverage", "recall_at_10", "spelt", "unknown"}
    assert set(record["metrics"]["test"]) == {"on", "off", "random", "baseline", "plain"}
    assert set(record["metrics"]["test"]["on"]) == {"nats", "tokens", "bytes", "loss", "ppl", "bpb"}
    leakage = record["leakage"]
    assert {"reference", "alphas", "curves", "differences"} <= set(leakage)
    assert {"alpha", "bpb", "ppl", "chunks", "bytes", "documents"} <= set(
        leakage["curves"]["on"][0]
    )
    assert {"a", "b", "alpha", "delta_bpb", "low", "high"} <= set(leakage["differences"][0])
    assert leakage["curves"]["on"][-1]["bpb"] == record["metrics"]["test"]["on"]["bpb"]


def test_chunks_parquet_gives_every_figure_again(
    results: Results, make_table: Make, tmp_path: Path
) -> None:
    make_table().save(tmp_path / "chunks.parquet")
    results.save(tmp_path / "results.json")
    recorded = Results.load(tmp_path / "results.json")
    assert recompute(tmp_path / "chunks.parquet", recorded.leakage) == results.leakage
    table = ChunkTable.load(tmp_path / "chunks.parquet")
    assert {name: table.score(name) for name in table.nats} == recorded.metrics["test"]
    assert table.retrieval_fraction == recorded.evaluation.scored_with_retrieval_fraction


def test_another_chunks_file_gives_other_figures(
    results: Results, make_table: Make, tmp_path: Path
) -> None:
    make_table(seed=1).save(tmp_path / "chunks.parquet")
    assert recompute(tmp_path / "chunks.parquet", results.leakage) != results.leakage


def damaged(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "schema_version 2": record | {"schema_version": 2},
        "schema_version None": {k: v for k, v in record.items() if k != "schema_version"},
        "no field run_key": {k: v for k, v in record.items() if k != "run_key"},
        "data.chunks is str, expected int": record | {"data": record["data"] | {"chunks": "many"}},
        "metrics is list, expected dict": record | {"metrics": []},
        "leakage has no field alphas": record | {"leakage": {"reference": None}},
        "metrics has no split test": record | {"metrics": {}},
        "leakage.curves is empty": record | {"leakage": record["leakage"] | {"curves": {}}},
    }


def test_damage_is_a_user_error_that_names_it(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.save(path)
    without_checksums(tmp_path)
    for words, record in damaged(orjson.loads(path.read_bytes())).items():
        path.write_bytes(orjson.dumps(record))
        with pytest.raises(UserError) as caught:
            Results.load(path)
        assert words in str(caught.value)
        assert "results.json" in str(caught.value)
        assert caught.value.fix


def test_a_changed_digit_is_named(results: Results, tmp_path: Path) -> None:
    """Although the file is as good as before to look at."""
    path = tmp_path / "results.json"
    results.save(path)
    path.write_bytes(path.read_bytes().replace(b"60.0", b"61.0"))
    with pytest.raises(UserError, match=r"results\.json is damaged: it has SHA-256"):
        Results.load(path)


@pytest.mark.parametrize("content", [b"", b'{"schema_version": 1', b"[]"])
def test_what_is_no_results_file_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(UserError, match="does not exist"):
        Results.load(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"results\.json"):
        Results.load(path)


def test_fields_that_came_later_are_passed_over(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.save(path)
    record = orjson.loads(path.read_bytes())
    record["leakage"]["later"] = record["later"] = {"more": 1}
    without_checksums(tmp_path)
    path.write_bytes(orjson.dumps(record))
    assert Results.load(path) == results


def test_environment_names_versions_and_imports_nothing_heavy() -> None:
    found = environment()
    assert found["packages"]["numpy"]
    assert found["cores"] >= 1
    assert found["cpu"]
    assert orjson.dumps(found)
    code = (
        "import sys; from retro_lab.evaluation.records.environment import environment;"
        "environment();"
        "sys.exit(bool({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_reading_results_does_not_import_torch() -> None:
    code = (
        "import sys; from retro_lab.evaluation.records import results;"
        "from retro_lab.evaluation.report import plots, tables, verdict;"
        "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_sweep_row_takes_its_figures_from_results(results: Results) -> None:
    row = sweep_row(results)
    assert (row.retriever, row.k, row.cca, row.chunk_size) == ("bm25", 2, "mid", 64)
    assert row.score == results.metrics["test"]["on"]
    assert row.baseline == results.metrics["test"]["baseline"]
    assert row.difference == results.leakage.difference("on", "plain", 1.0)
    assert row.leak_free is not None
    assert row.leak_free.alpha == 0.125
    assert (row.corpus, row.split, row.stride) == ("jsonl manuals.jsonl.zst", "test", 256)
    assert row.reference == "own neighbours"


def test_a_run_without_retrieval_is_its_own_score(results: Results) -> None:
    score = results.metrics["test"]["baseline"]
    alone = replace(
        results,
        config=CONFIG | {"retriever": {"name": "none"}},
        metrics={"test": {"baseline": score}},
        leakage=replace(results.leakage, curves={}, differences=[]),
    )
    row = sweep_row(alone)
    assert (row.k, row.cca, row.recipe, row.score) == (0, "none", "none", score)
    assert row.database == "none"
    assert row.difference is None
    assert in_sweep_order([sweep_row(results), row]) == [row, sweep_row(results)]


def test_axes_that_tell_runs_apart(results: Results) -> None:
    row = sweep_row(results)
    assert varying([row, replace(row, k=4)]) == ["retriever"]
    assert varying([row, replace(row, seed=2)]) == ["retriever", "seed"]
    explicit = CONFIG | {"cca": {"placement": "mid", "layers": [2, 4]}}
    other = sweep_row(replace(results, config=explicit))
    assert other.cca == "layers 2,4"
    assert varying([row, other]) == ["cca"]
    without = replace(row, k=0, recipe="none", reference="none")
    assert varying([row, without]) == ["retriever"]
    rows = [row, replace(without, split="train")]
    assert varying(rows) == ["retriever"], "each split has a table of its own"
    assert list(by_split(rows)) == ["test", "train"]

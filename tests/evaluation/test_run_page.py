"""Contract of index.html: figures, verdict, plots and files of a run on one page that loads nothing
from elsewhere; the same results give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from retro_lab.evaluation.measure.leakage import analyse
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import DataCounts, EvaluationSettings, Results
from retro_lab.evaluation.report.pages.run_page import OUTDATED, outdated, write_run_page


@pytest.fixture
def results(make_table: Callable[..., ChunkTable]) -> Results:
    table = make_table()
    return Results(
        run_key="0",
        config={},
        lineage={},
        environment={},
        data=DataCounts(300, 2000, 100_000, 300_000, duplicates=4, unread=0),
        evaluation=EvaluationSettings("test", 512, 256, table.retrieval_fraction),
        metrics={"test": {name: table.score(name) for name in table.nats}},
        leakage=analyse(table, [0.001, 0.125, 1], "exact_corpus", Bootstrap(50)),
        timing={},
    )


def test_the_page_is_whole_by_itself(results: Results, tmp_path: Path) -> None:
    (tmp_path / "leakage.png").write_bytes(b"\x89PNG of leakage")
    (tmp_path / "chunks.parquet").write_bytes(b"")
    page = write_run_page(results, tmp_path).read_text()
    assert "Retrieval helps" in page
    assert "4 of 30 scored documents" in page
    assert f"{results.metrics['test']['on'].bpb:.4f}" in page
    for alpha in ("0.001", "0.125"):
        assert f"<td>{alpha}</td>" in page
    assert "RETRO[random]" in page
    assert 'href="chunks.parquet"' in page
    assert "tokens.parquet" not in page, "only files that are there"
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?://|<script|\bnan\b|None", page)


def test_what_another_evaluation_left_is_not_shown_as_of_this_one(
    results: Results, tmp_path: Path
) -> None:
    asked = {"split": "test", "stride": None, "k": 2, "reference": "own_neighbours", "seed": 0}
    results = replace(results, config={"eval": asked})
    for name in ("injection.png", "injection.svg", "rivals.parquet"):
        (tmp_path / name).write_bytes(b"figure")
    for name in ("injection.json", "rivals.json"):
        (tmp_path / name).write_bytes(orjson.dumps({"evaluation": asked | {"seed": 1}}))
    page = write_run_page(results, tmp_path).read_text()
    assert outdated(results, tmp_path) == set()
    assert page.count("data:image/png") == 1
    assert OUTDATED not in page
    for name in ("injection.json", "injection.svg", "rivals.json", "rivals.parquet"):
        assert f'href="{name}"' in page
    for name, other in (("split", "train"), ("stride", 16), ("k", 1), ("reference", "x")):
        (tmp_path / "injection.json").write_bytes(
            orjson.dumps({"evaluation": asked | {name: other}})
        )
        expected = {"injection.json", "injection.png", "injection.svg"}
        assert outdated(results, tmp_path) == expected
        page = write_run_page(results, tmp_path).read_text()
        assert "data:image/png" not in page
        assert page.count(OUTDATED) == 2
    (tmp_path / "injection.json").write_bytes(b"{")
    assert outdated(results, tmp_path) == set(), "damage is for its reader to name"


def test_the_same_results_give_the_same_page(results: Results, tmp_path: Path) -> None:
    first = write_run_page(results, tmp_path).read_bytes()
    assert write_run_page(results, tmp_path).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_names_are_escaped(results: Results, tmp_path: Path) -> None:
    folder = tmp_path / "<b>&run"
    folder.mkdir()
    page = write_run_page(results, folder).read_text()
    assert "&lt;b&gt;&amp;run" in page
    assert "<b>&run" not in page

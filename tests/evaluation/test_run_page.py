"""Contract of index.html: verdict, curves, figures, examples, settings and files of a run on one
page that loads nothing from elsewhere; the same results give the same bytes."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from page_checks import check_page, json_of

from retro_lab.commands.summary import show_results
from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.measure.leakage import Difference, analyse
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.examples_file import Example, ExampleNeighbour, Examples, Piece
from retro_lab.evaluation.records.results import (
    DataCounts,
    EvaluationSettings,
    PlainModel,
    Results,
)
from retro_lab.evaluation.report.pages.run_facts import Link
from retro_lab.evaluation.report.pages.run_page import OUTDATED, outdated, write_run_page
from retro_lab.evaluation.report.pages.training_curves import MOST_POINTS
from retro_lab.evaluation.report.plain_words import plain_in_words
from retro_lab.evaluation.report.verdict_card import verdict_card
from retro_lab.run.directory import RunDirectory


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
    (tmp_path / "gain.png").write_bytes(b"\x89PNG of the gain")
    (tmp_path / "chunks.parquet").write_bytes(b"")
    page = write_run_page(results, tmp_path).read_text()
    check_page(page)
    assert "4 of 30 scored documents" in page
    assert f"{results.metrics['test']['on'].bpb:.4f}" in page
    for alpha in ("0.001", "0.125"):
        assert f'<th scope="row">{alpha}</th>' in page
    assert "RETRO[random]" in page
    assert 'href="chunks.parquet"' in page
    assert "tokens.parquet" not in page, "only files that are there"
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    tables = "".join(re.findall("<table>.*?</table>", page, re.DOTALL))
    assert not re.search(r"\bnan\b|None", tables)


def test_the_page_says_what_its_words_mean(results: Results, tmp_path: Path) -> None:
    page = html.unescape(write_run_page(results, tmp_path).read_text())
    words = page.split("What the words on this page mean")[1].split("</details>")[0]
    for name in results.metrics["test"]:
        assert f">{label(name)}</" in words
    for name in ("bits per byte", "r(C)", "interval"):
        assert f">{name}</" in words
    assert "RETRO[oracle]" not in words, "only conditions of this page"


def test_the_page_of_a_further_evaluation_names_its_run(results: Results, tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "databases" / "planted-1" / "evaluations" / "exact"
    folder.mkdir(parents=True)
    assert "<h1>tiny: planted-1: exact</h1>" in write_run_page(results, folder).read_text()


def test_a_number_of_parameters_is_shown_only_as_the_run_wrote_it(
    results: Results, tmp_path: Path
) -> None:
    RunDirectory(tmp_path).record("model.json", {"parameters": {"total": 123_456}})
    assert "123,456" in write_run_page(results, tmp_path).read_text()
    file = tmp_path / "model.json"
    file.write_bytes(file.read_bytes().replace(b"123456", b"923456"))
    assert "923,456" not in write_run_page(results, tmp_path).read_text()


def test_the_card_and_the_terminal_say_the_same(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = replace(results, config={"eval": {}})
    results.save(tmp_path / "results.json")
    show_results(RunDirectory(tmp_path), verbose=True)
    said = " ".join(capsys.readouterr().out.split())
    lines = verdict_card(results)
    assert [line.title for line in lines] == [
        "Gain from retrieval",
        "Gain without leakage",
        "Controls",
    ]
    page = html.unescape(write_run_page(results, tmp_path).read_text())
    for line in lines:
        assert f"<strong>{line.answer}</strong>" in page
        for sentence in line.sentences:
            assert sentence in said
            assert page.count(sentence) == 2, "in the card and in the whole verdict"


def test_a_control_that_fails_is_on_the_card(results: Results) -> None:
    assert verdict_card(results)[2].answer == "passed"
    moved = [
        replace(d, delta_bpb=0.0, low=-0.1, high=0.1) if (d.a, d.b) == ("on", "random") else d
        for d in results.leakage.differences
    ]
    card = verdict_card(replace(results, leakage=replace(results.leakage, differences=moved)))
    assert [line.answer for line in card] == ["not shown", "not shown", "failed"]
    assert any("random neighbours" in sentence for sentence in card[2].sentences)


def test_the_leak_figure_draws_the_curves(results: Results, tmp_path: Path) -> None:
    curves, difference = json_of(write_run_page(results, tmp_path).read_text())
    assert curves["x"] == results.leakage.alphas
    drawn = {one["label"]: one["values"] for one in curves["series"]}
    on = [None if p.bpb is None else float(f"{p.bpb:.6g}") for p in results.leakage.curves["on"]]
    assert drawn["RETRO[ON]"] == on
    assert {"baseline", "backbone"} <= drawn.keys()
    assert difference["series"][0]["label"] == "RETRO[ON] minus plain"
    assert len(difference["series"][0]["low"]) == len(difference["x"])


def test_an_off_that_is_the_baseline_is_drawn_once(results: Results, tmp_path: Path) -> None:
    leakage = results.leakage
    one = replace(leakage, curves=leakage.curves | {"off": leakage.curves["baseline"]})
    page = write_run_page(replace(results, leakage=one), tmp_path).read_text()
    labels = [series["label"] for series in json_of(page)[0]["series"]]
    assert "baseline = backbone" in labels
    assert not {"baseline", "backbone"} & set(labels)


def test_training_curves_are_of_metrics_jsonl(results: Results, tmp_path: Path) -> None:
    lines = [{"step": n, "train/bpb": 3 - n / 1000, "train/lr": 0.1} for n in range(1, 1201)]
    lines += [{"step": 600, "val/bpb": 2.5}, {"step": 1200, "val/bpb": 2.25}, {"test/on/bpb": 1.0}]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    loss, rate, *_ = json_of(write_run_page(results, tmp_path).read_text())
    drawn = {one["label"]: one["values"] for one in loss["series"]}
    assert drawn["training"][-1] == 1.8
    assert [value for value in drawn["validation"] if value is not None] == [2.5, 2.25]
    assert sum(value is not None for value in drawn["training"]) <= MOST_POINTS + 1
    assert rate["y_name"] == "learning rate"
    (tmp_path / "metrics.jsonl").write_bytes(b"{")
    assert "Learning rate" not in write_run_page(results, tmp_path).read_text()


def test_example_chunks_are_shown_if_they_are_there(results: Results, tmp_path: Path) -> None:
    neighbour = ExampleNeighbour("b.txt", 1, 2.5, [Piece("</script><b>near", True)], [])
    example = Example("greatest gain", "a.txt", 7, 1.5, "plain", [Piece("far", False)], [neighbour])
    assert "Example chunks" not in write_run_page(results, tmp_path).read_text()
    Examples([example]).save(tmp_path)
    page = write_run_page(results, tmp_path).read_text()
    check_page(page)
    assert "greatest gain: a.txt, chunk 7" in page
    assert '<span class="m">&lt;/script&gt;&lt;b&gt;near</span>' in page


def test_the_plain_model_is_said_to_be_better_or_worse(results: Results, tmp_path: Path) -> None:
    plain = PlainModel("plain-run", "0", "tokens", 10, 100, 0.1, epochs=2.5)
    said = {}
    for low, high in ((-0.3, -0.1), (0.1, 0.3), (-0.1, 0.1)):
        difference = Difference("plain", "baseline", 1.0, (low + high) / 2, low, high, 30)
        leakage = replace(results.leakage, differences=[difference])
        found = plain_in_words(replace(results, plain=plain, leakage=leakage))
        said[low] = found[1].partition(": ")[2]
        assert "100 tokens (the training text 2.5 times)" in found[0]
    assert said[-0.3].startswith("better than the baseline")
    assert said[0.1].startswith("worse than the baseline")
    assert said[-0.1].startswith("no better and no worse")
    assert plain_in_words(results) == []


def test_other_evaluations_and_compared_runs_are_linked(results: Results, tmp_path: Path) -> None:
    plain = PlainModel("plain-run", "0", "tokens", 10, 100, 0.1)
    results, folder = replace(results, plain=plain), tmp_path / "run"
    folder.mkdir()
    other = Link("validation <1>", "evaluations/validation/index.html", "the validation split")
    page = write_run_page(results, folder, [other]).read_text()
    assert '<a href="evaluations/validation/index.html">validation &lt;1&gt;</a>' in page
    assert "../plain-run" not in page, "it is not there"
    (tmp_path / "plain-run").mkdir()
    assert 'href="../plain-run"' in write_run_page(results, folder).read_text()


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

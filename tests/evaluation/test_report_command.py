"""Contract of `python -m retro_lab report`: only runs that were read, filtered and scored alike are
seeds of one row, the same results count once, and table, CSV, Markdown and W&B say on what text and
against what reference a figure was measured."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from page_checks import check_page, json_of

from retro_lab.commands.report import main
from retro_lab.config.compose import load_config
from retro_lab.config.serialise import write_config
from retro_lab.evaluation.measure.leakage import analyse
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import (
    DataCounts,
    EvaluationSettings,
    Results,
    SearchedDatabase,
)
from retro_lab.evaluation.report.sweep import sweep_row
from retro_lab.sweeps.failure import failure_recorded

CONFIG: dict[str, Any] = {
    "retriever": {"name": "bm25"},
    "model": {"name": "tiny"},
    "recipe": {"name": "retrofit"},
    "chunking": {"chunk_size": 64},
    "corpus": {"name": "python"},
    "cca": {"placement": "mid", "layers": None},
    "neighbours": {"k": 2},
    "eval": {"k": None, "overlap_neighbours": 10, "seed": 0},
    "trainer": {"precision": "bf16-mixed", "threads": None},
}
SEARCHED = SearchedDatabase("all of it", "all of it", 30, 200, [])
OWN = "own_neighbours (bm25)"
TEN = "10 own neighbours (bm25)"


@dataclass
class Runs:
    """Writes results.json below a folder of runs, and reports it."""

    folder: Path
    make_table: Callable[..., ChunkTable]
    capture: pytest.CaptureFixture[str] = field(repr=False)

    def results(self, seed: int, config: dict[str, Any] = CONFIG, **evaluation: Any) -> Results:
        table = self.make_table(seed=seed)
        reference = evaluation.pop("reference", OWN)
        settings = EvaluationSettings("test", 512, 256, 0.9, SEARCHED)
        settings = replace(settings, **evaluation)
        return Results(
            run_key=f"{config['retriever']['name']}{seed}",
            config=config | {"seed": seed},
            lineage={"chunks": "fedcba9876543210"},
            environment={},
            data=DataCounts(documents=30, chunks=200, tokens=9000, bytes=30_000),
            evaluation=settings,
            metrics={settings.split: {name: table.score(name) for name in table.nats}},
            leakage=analyse(table, [0.125, 1.0], reference, Bootstrap(20)),
            timing={"training": 60.0},
        )

    def write(self, name: str, results: Results) -> Path:
        (self.folder / name).mkdir(parents=True)
        results.save(self.folder / name / "results.json")
        return self.folder / name

    def report(self, *more: str) -> str:
        assert main([str(self.folder), *more]) == 0
        return self.capture.readouterr().out

    def csv(self) -> list[dict[str, str]]:
        with (self.folder / "report.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def markdown(self) -> list[dict[str, str]]:
        """Rows of all tables."""
        lines = (self.folder / "report.md").read_text(encoding="utf-8").splitlines()
        found, heads = [], None
        for line in lines:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not line.startswith("|"):
                heads = None
            elif heads is None:
                heads = cells
            elif "---" not in cells:
                found.append(dict(zip(heads, cells, strict=True)))
        return found


@pytest.fixture
def runs(
    make_table: Callable[..., ChunkTable],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Runs:
    monkeypatch.setenv("COLUMNS", "200")
    return Runs(tmp_path / "runs", make_table, capsys)


def test_seeds_are_one_row_in_table_and_markdown_and_a_row_each_in_the_csv(runs: Runs) -> None:
    for seed in (1, 2):
        runs.write(f"bm25-{seed}", runs.results(seed))
    text = runs.report()
    bpb = [runs.results(seed).metrics["test"]["on"].bpb for seed in (1, 2)]
    [row] = runs.markdown()
    assert row["retriever"] == "bm25"
    assert (row["k"], row["seeds"], row["time"], row["FLOPs"]) == ("2", "2", "60 s", "-")
    assert row["bits/byte"].startswith(f"{sum(bpb) / 2:.4f} ± ")
    assert row["best seed"] == f"{min(bpb):.4f}"
    assert not {"corpus", "split", "stride", "reference"} & set(row), "they are the same for all"
    assert "test split: 1 setting, seeds together" in text
    assert row["bits/byte"] in text
    markdown = (runs.folder / "report.md").read_text()
    for said in (" ".join(text.split()), markdown):
        assert "A choice made on the test split is no estimate of it." in said
    rows = runs.csv()
    assert [row["seed"] for row in rows] == ["1", "2"]
    assert [float(row["bpb"]) for row in rows] == bpb
    assert {row["split"] for row in rows} == {"test"}
    assert {row["reference"] for row in rows} == {TEN}
    assert {(row["corpus"], row["stride"]) for row in rows} == {("python", "256")}
    assert (runs.folder / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (runs.folder / "report.svg").read_bytes().startswith(b"<?xml")


def with_part(group: str, **values: Any) -> dict[str, Any]:
    return CONFIG | {group: CONFIG[group] | values}


def measured_otherwise(runs: Runs, case: str) -> Results:
    """Seed 2, with one thing of its evaluation, its data or its training changed."""
    config = {
        "k": with_part("eval", k=8),
        "neighbours searched": with_part("eval", overlap_neighbours=20),
        "precision": with_part("trainer", precision="32-true"),
    }
    evaluation = {
        "split": {"split": "validation"},
        "stride": {"stride": 64},
        "window": {"window": 1024},
        "reference": {"reference": "exact_corpus"},
        "database": {"database": replace(SEARCHED, name="half of it")},
        "trained with": {"database": replace(SEARCHED, trained_with="half of it")},
    }
    found = runs.results(2, config.get(case, CONFIG), **evaluation.get(case, {}))
    return replace(found, lineage={"chunks": "0"}) if case == "data" else found


@pytest.mark.parametrize(
    ("case", "column", "values"),
    [
        ("k", "k", ["2", "8"]),
        ("neighbours searched", "reference", [TEN, "20 own neighbours (bm25)"]),
        ("stride", "stride", ["256", "64"]),
        ("reference", "reference", [TEN, "any training text (exact)"]),
        ("database", "database", ["all of it", "half of it; trained with all of it"]),
        ("trained with", "database", ["all of it", "all of it; trained with half of it"]),
        ("window", "seeds", ["1", "1"]),
        ("precision", "seeds", ["1", "1"]),
        ("data", "seeds", ["1", "1"]),
    ],
)
def test_what_was_measured_otherwise_is_a_row_of_its_own(
    runs: Runs, case: str, column: str, values: list[str]
) -> None:
    runs.write("one", runs.results(1))
    runs.write("two", measured_otherwise(runs, case))
    text = runs.report()
    rows = runs.markdown()
    assert [row["seeds"] for row in rows] == ["1", "1"]
    assert sorted(row[column] for row in rows) == values
    assert all(value in text for value in values)


def test_defaults_of_an_evaluation_are_no_difference(runs: Runs) -> None:
    """A k that is asked for and is that of training, and what changes no figure."""
    runs.write("one", runs.results(1))
    config = with_part("eval", k=2, seed=7) | {"trainer": CONFIG["trainer"] | {"threads": 4}}
    runs.write("two", runs.results(2, config))
    runs.report()
    assert [row["seeds"] for row in runs.markdown()] == ["2"]


def test_own_neighbours_count_only_where_they_are_the_reference(runs: Runs) -> None:
    one = runs.results(1, reference="exact_corpus")
    other = runs.results(1, with_part("eval", overlap_neighbours=20), reference="exact_corpus")
    assert sweep_row(one).settings == sweep_row(other).settings


def test_no_table_and_no_row_holds_figures_of_two_splits(runs: Runs) -> None:
    runs.write("one", runs.results(1))
    for seed in (1, 2):
        runs.write(f"v{seed}", runs.results(seed, split="validation"))
    text = runs.report("sort=-bpb")
    markdown = (runs.folder / "report.md").read_text()
    for said in (text, markdown):
        assert said.index("validation split") < said.index("test split")
    assert "validation split: 2 runs" in text
    assert "test split: 1 run" in text
    assert [row["seeds"] for row in runs.markdown()] == ["2", "1"]
    assert [row["split"] for row in runs.csv()] == ["validation", "validation", "test"]


def test_runs_on_other_corpora_and_a_baseline_on_another_split_show_it(runs: Runs) -> None:
    runs.write("one", runs.results(1))
    runs.write("two", runs.results(1, with_part("corpus", path="texts/manuals.jsonl")))
    alone = runs.results(1, with_part("retriever", name="none"), split="validation", reference=None)
    score = alone.metrics["validation"]["baseline"]
    runs.write("three", replace(alone, metrics={"validation": {"baseline": score}}))
    text = runs.report()
    shown = [(row.get("corpus"), row["k"]) for row in runs.markdown()]
    assert shown == [(None, "-"), ("python", "2"), ("python manuals.jsonl", "2")]
    assert text.index("validation split") < text.index("test split")
    assert [row["reference"] for row in runs.csv()].count("none") == 1


def test_runs_that_look_alike_say_in_which_settings_they_differ(runs: Runs) -> None:
    for seed, lr in ((1, 0.003), (2, 0.003), (3, 0.006)):
        config = CONFIG | {"optim": {"lr": lr, "name": "adamw"}}
        runs.write(f"a-{seed}", runs.results(seed, config))
    runs.write("b", runs.results(4, with_part("chunking", chunk_size=32)))
    runs.report()
    found = {(row["chunk size"], row["optim.lr"], row["seeds"]) for row in runs.markdown()}
    assert found == {("64", "0.003", "2"), ("64", "0.006", "1"), ("32", "", "1")}
    assert [row["optim.lr"] for row in runs.csv()] == ["", "0.003", "0.003", "0.006"]


def test_the_same_results_count_once_and_it_is_said(runs: Runs) -> None:
    run = runs.write("run", runs.results(1))
    again = replace(runs.results(1), timing={"training": 90.0})
    runs.write("trained again", again)
    shutil.copytree(run, runs.folder / "copy")
    text = runs.report(str(run))
    [row] = runs.markdown()
    assert (row["seeds"], "±" in row["bits/byte"]) == ("1", False)
    assert len(runs.csv()) == 1
    assert "1 finished" in text
    first = runs.folder / "copy" / "results.json"
    for name in ("run", "trained again"):
        assert f"{runs.folder / name / 'results.json'} repeats {first} and was left out." in text


def with_memory(runs: Runs, name: str, share: float | None, seed: int = 1) -> Results:
    """Results of one and the same run, read with a memory that leaves this share of the nats."""
    table = runs.make_table(seed=1)
    if share is not None:
        table = replace(table, nats={**table.nats, "memory": share * table.nats["on"]})
    return replace(
        runs.results(1),
        config=CONFIG | {"seed": seed, "memory": {"name": name}},
        metrics={"test": {name: table.score(name) for name in table.nats}},
        leakage=analyse(table, [0.125, 1.0], OWN, Bootstrap(20)),
    )


def test_points_that_differ_in_their_memory_have_each_its_figures(runs: Runs) -> None:
    shares = {"none": None, "suffix": 0.5, "suffix_topic": 0.25}
    for name, share in shares.items():
        where = "run" if share is None else f"run/evaluations/leakage-memory_{name}"
        runs.write(where, with_memory(runs, name, share))
    write_config(load_config([]), runs.folder / "run" / "config.yaml")
    text = runs.report("sort=memory")
    best, middle, none = runs.markdown()
    own = runs.results(1).metrics["test"]["on"].bpb
    assert {row["bits/byte"] for row in (best, middle, none)} == {f"{own:.4f}"}
    assert [row["memory.name"] for row in (best, middle, none)] == [
        "suffix_topic",
        "suffix",
        "none",
    ]
    told = [row["with memory"] for row in (best, middle, none)]
    assert told == [f"{0.25 * own:.4f}", f"{0.5 * own:.4f}", "-"]
    assert best["memory - without all chunks"] == f"{-0.75 * own:+.4f}"
    assert none["memory - without all chunks"] == "-"
    assert f"{0.25 * own:.4f}" in text
    saved = {row["memory.name"]: row["memory_delta_bpb"] for row in runs.csv()}
    assert saved.pop("none") == ""
    assert float(saved["suffix"]) == pytest.approx(-own / 2)
    page = (runs.folder / "report.html").read_text(encoding="utf-8")
    [figure] = json_of(page)
    lines = {line["label"]: line["values"] for line in figure["series"]}
    values = {value for value in lines["bm25, with memory"] if value is not None}
    assert sorted(values) == pytest.approx([0.25 * own, 0.5 * own], abs=1e-6)


def test_seeds_with_a_memory_have_its_mean(runs: Runs) -> None:
    for seed, share in ((1, 0.5), (2, 0.25)):
        runs.write(
            f"run{seed}", replace(with_memory(runs, "suffix", share, seed), run_key=str(seed))
        )
    runs.report()
    [row] = runs.markdown()
    own = runs.results(1).metrics["test"]["on"].bpb
    assert row["with memory"].startswith(f"{0.375 * own:.4f} ± ")


def test_a_run_without_a_memory_column_has_none(runs: Runs) -> None:
    runs.write("run", runs.results(1))
    runs.report()
    assert not any("memory" in head for row in runs.markdown() for head in row)


@pytest.mark.parametrize("own", ["leakage", "my-own"])
def test_what_a_run_was_scored_on_is_a_row_by_whatever_kind_of_evaluation(
    runs: Runs, own: str
) -> None:
    """Kinds look at the same scores; another split or memory is looked at by any of them."""
    written = {
        "run": runs.results(1),
        "run/evaluations/exact": runs.results(1, reference="exact_corpus"),
        "run/evaluations/exact-validation": runs.results(1, split="validation"),
        f"run/evaluations/{own}-memory_suffix": with_memory(runs, "suffix", 0.5),
        "run/evaluations/exact-memory_suffix": with_memory(runs, "suffix", 0.5),
        "run/evaluations/rivals-memory_topic": with_memory(runs, "topic", 0.4),
    }
    for name, results in written.items():
        runs.write(name, results)
    write_config(load_config([f"eval.name={own}"]), runs.folder / "run" / "config.yaml")
    text = runs.report()
    assert "repeats" not in text
    page = (runs.folder / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r'<a href="(run[^"]*)">', page)) == {
        *("run", "run/evaluations/exact-validation"),
        *(f"run/evaluations/{own}-memory_suffix", "run/evaluations/rivals-memory_topic"),
    }


def test_one_run_on_two_splits_is_no_repetition(runs: Runs) -> None:
    runs.write("run", runs.results(1))
    runs.write("copy", runs.results(1, split="validation"))
    assert "repeats" not in runs.report()
    assert len(runs.csv()) == 2


def test_other_figures_of_the_same_run_are_refused(runs: Runs) -> None:
    runs.write("run", runs.results(1))
    runs.write("other", replace(runs.results(2), run_key="bm251", config=CONFIG | {"seed": 1}))
    assert main([str(runs.folder)]) == 2
    error = " ".join(runs.capture.readouterr().err.split())  # wrapped, and paths differ in length
    assert "the same run and the same evaluation, but their figures differ" in error
    assert str(runs.folder / "run" / "results.json") in error
    assert not list(runs.folder.glob("report.*"))


def test_nothing_to_report_is_one_message(runs: Runs, tmp_path: Path) -> None:
    for path, words in ((tmp_path, "no finished run in"), (tmp_path / "x", "does not exist")):
        assert main([str(path)]) == 2
        assert words in runs.capture.readouterr().err


def test_rows_are_chosen_and_sorted(runs: Runs) -> None:
    for seed, lr in ((1, 0.003), (2, 0.006), (3, 0.012)):
        runs.write(f"a-{seed}", runs.results(seed, CONFIG | {"optim": {"lr": lr}}))
    runs.report("where=optim.lr>=0.006", "where=seed=2,3", "sort=-optim.lr")
    assert [row["optim.lr"] for row in runs.csv()] == ["0.012", "0.006"]
    runs.report("sort=bpb", "where=retriever!=none")
    found = [float(row["bpb"]) for row in runs.csv()]
    assert found == sorted(found)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("where=optim.lr", "is no condition"),
        ("where=optm.lr=1", "did you mean"),
        ("sort=bbp", "did you mean bpb?"),
        ("where=seed=9", "no run holds seed=9"),
        ("where=seed>x", "x is no number"),
    ],
)
def test_a_wrong_choice_is_one_message(runs: Runs, argument: str, message: str) -> None:
    runs.write("one", runs.results(1, CONFIG | {"optim": {"lr": 0.1}}))
    assert main([str(runs.folder), argument]) == 2
    assert message in runs.capture.readouterr().err
    assert not list(runs.folder.glob("report.*"))


def test_runs_without_results_are_named_with_reason_and_command(runs: Runs) -> None:
    runs.write("one", runs.results(1))
    with (
        pytest.raises(ValueError),
        failure_recorded(runs.write("two", runs.results(2)), ["seed=2"]),
    ):
        raise ValueError("no luck")
    (runs.folder / "three").mkdir()
    (runs.folder / "three" / "status.json").write_text('{"state": "training", "seconds": {}}')
    text = runs.report()
    assert "2 finished, 1 failed, 1 pending" in text
    assert "failed  two: ValueError: no luck\n        python train.py seed=2\n" in text
    assert "pending three: training\n" in text
    assert "ValueError: no luck" in (runs.folder / "report.md").read_text()


def test_the_page_has_every_run_its_figures_and_what_is_unfinished(runs: Runs) -> None:
    for seed in (1, 2):
        runs.write(f"bm25-{seed}", runs.results(seed))
    (runs.folder / "bm25-1" / "index.html").write_text("page")
    (runs.folder / "three").mkdir()
    (runs.folder / "three" / "status.json").write_text('{"state": "training", "seconds": {}}')
    said = runs.report()
    page = (runs.folder / "report.html").read_text(encoding="utf-8")
    assert "report.html" in said
    check_page(page)
    assert "<p>2 finished, 1 pending</p>" in page
    assert '<a href="bm25-1/index.html">bm25-1</a>' in page
    assert '<a href="bm25-2">bm25-2</a>' in page, "a run without a page is a folder"
    assert '<th scope="row">three</th><td class="name">pending</td>' in page
    [figure] = json_of(page)
    bpb = [runs.results(seed).metrics["test"]["on"].bpb for seed in (1, 2)]
    line, plain = figure["series"]
    assert line["values"] == pytest.approx([sum(bpb) / 2])
    assert plain["label"] == "plain"
    for value in bpb:
        assert f"<td>{value:.4f}</td>" in page


def test_a_further_evaluation_is_listed_by_the_name_of_its_run(runs: Runs) -> None:
    evaluations = runs.write("bm25-1/evaluations/exact", runs.results(1)).parent
    assert main([str(evaluations)]) == 0
    page = (runs.folder / "report.html").read_text(encoding="utf-8")
    assert '<a href="bm25-1/evaluations/exact">bm25-1</a>' in page


def test_wandb_gets_the_same_table_and_the_plot(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, Any] = {}
    started: dict[str, Any] = {}

    class Run(nullcontext):
        log = staticmethod(logged.update)
        url = None
        dir = "offline-run"

    def init(**arguments: Any) -> Run:
        started.update(arguments)
        return Run()

    settings = SimpleNamespace(
        mode="offline", project=None, entity=None, run_group=None, run_notes=None, run_tags=None
    )
    fake = SimpleNamespace(
        init=init,
        setup=lambda own: SimpleNamespace(settings=settings),
        Settings=dict,
        Image=lambda path: path,
        Table=lambda **table: table,
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    runs.write("one", runs.results(1))
    runs.write("two", runs.results(2, split="validation"))
    text = runs.report("logger=wandb")
    found = []
    for split in ("validation", "test"):
        table = logged[f"report/{split} split"]
        found += [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert found == runs.markdown()
    assert logged["report/plot"] == str(runs.folder / "report.png")
    assert (started["mode"], started["job_type"]) == ("offline", "report")
    assert "offline-run" in text


def _with_callbacks(path: str, **settings: Any) -> dict[str, Any]:
    name = path.rpartition(":")[2]
    callbacks = {"cls": [path], "settings": {name: settings}, "sources": {path: "ab" * 32}}
    return CONFIG | {"callbacks": callbacks, "trainer": {"extra": {"max_time": "00:01:00:00"}}}


def test_a_class_alone_is_shown_where_its_settings_follow_from_it(runs: Runs) -> None:
    given = {"every": 0.123456, "names": ["a", "b"]}
    runs.write("none", runs.results(1))
    runs.write("own", runs.results(1, _with_callbacks("heartbeat:Heartbeat", **given)))
    runs.report()
    rows = runs.markdown()
    assert [row.get("callbacks.cls") for row in rows] == ["", "heartbeat:Heartbeat"]
    assert not [name for name in rows[0] if "settings" in name or "sources" in name]


def test_long_values_are_shortened_in_tables_and_whole_in_the_csv(runs: Runs) -> None:
    long = "a_package_of_mine.with_a_long_name.callbacks:Heartbeat"
    for name, every in (("a", 0.123456), ("b", 0.5)):
        runs.write(name, runs.results(1, _with_callbacks(long, every=every, text=long + name)))
    runs.report()
    rows, key = runs.markdown(), "callbacks.settings.Heartbeat"
    assert {row[f"{key}.every"] for row in rows} == {"0.1235", "0.5"}
    shown = {row[f"{key}.text"] for row in rows}
    assert shown == {f"a_package_of_m…ks:Heartbeat{name}" for name in "ab"}
    assert {row[f"{key}.text"] for row in runs.csv()} == {f"{long}{name}" for name in "ab"}

"""Contract of `python -m retro_lab report`: the same results count once, runs without results are
named, and table, CSV, Markdown, page and W&B say on what text and against what reference a figure
was measured. (`test_report_rows.py` says which runs are one row.)
"""

from __future__ import annotations

import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure
from page_checks import check_page, json_of
from pictures import draw
from reported_runs import CONFIG, TEN, Runs

from retro_lab.commands.report import main
from retro_lab.sweeps.failure import failure_recorded


def test_seeds_are_one_row_in_table_and_markdown_and_a_row_each_in_the_csv(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Figure, "savefig", draw)
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

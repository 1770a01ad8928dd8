"""Contract of `python -m retro_lab report`: only runs that were read, filtered and scored alike are
seeds of one row, and the table says in what its rows differ.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from reported_runs import CONFIG, SEARCHED, TEN, Runs, with_part

from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.sweep import sweep_row


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

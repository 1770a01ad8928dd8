"""Contract of `python -m retro_lab report`: a run with a memory has the memory's figures beside its
own, and each evaluation of a run counts once.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from composed import config_of
from page_checks import json_of
from reported_runs import CONFIG, OWN, Runs

from retro_lab.config.serialise import write_config
from retro_lab.evaluation.measure.leakage import analyse
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.results import Results


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
    write_config(config_of(), runs.folder / "run" / "config.yaml")
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
    write_config(config_of(f"eval.name={own}"), runs.folder / "run" / "config.yaml")
    text = runs.report()
    assert "repeats" not in text
    page = (runs.folder / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r'<a href="(run[^"]*)">', page)) == {
        *("run", "run/evaluations/exact-validation"),
        *(f"run/evaluations/{own}-memory_suffix", "run/evaluations/rivals-memory_topic"),
    }

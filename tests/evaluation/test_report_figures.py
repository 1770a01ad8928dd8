"""Contract of plots and tables: the same results give the same PNG, missing figures leave gaps
and not errors, and tables are whole on a terminal of 80 columns."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from retro_lab.evaluation.chunk_table import ChunkTable
from retro_lab.evaluation.leakage import Difference, Leakage, analyse
from retro_lab.evaluation.metrics import Score
from retro_lab.evaluation.plots import plot_leakage, plot_sweep
from retro_lab.evaluation.seeds import by_settings
from retro_lab.evaluation.statistics import Bootstrap
from retro_lab.evaluation.sweep import SweepRow
from retro_lab.evaluation.tables import (
    conditions_table,
    leakage_table,
    probes_table,
    report_table,
    sweep_table,
)

Make = Callable[..., ChunkTable]
ALPHAS = [0.0001, 0.125, 0.5, 1.0]


@pytest.fixture
def leakage(make_table: Make) -> Leakage:
    return analyse(make_table(documents=120), ALPHAS, "own_neighbours", Bootstrap(50))


def row(retriever: str, k: int, bpb: float) -> SweepRow:
    def score(value: float) -> Score:
        return Score(value * math.log(2) * 1_000_000, 300_000, 1_000_000)

    delta = bpb - 2.3
    return SweepRow(
        run_key=f"{retriever}{k}",
        retriever=retriever,
        model="tiny",
        recipe="retrofit",
        chunk_size=64,
        cca="mid",
        seed=1,
        k=k,
        score=score(bpb),
        baseline=score(2.3),
        difference=Difference("on", "baseline", 1.0, delta, delta - 0.01, delta + 0.01, 120),
        leak_free=Difference("on", "baseline", 0.125, delta, None, None, 1),
        corpus="python",
        split="test",
        stride=256,
        reference="10 own neighbours (bm25)",
    )


def sweep_rows() -> list[SweepRow]:
    rows = [row(name, k, 2.25 + 0.01 * k) for name in ("bm25", "faiss_flat") for k in (4, 1, 2)]
    none = replace(row("none", 0, 2.3), difference=None, leak_free=None)
    return [*rows, none]


def printed(table: RenderableType, width: int = 80) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None).print(table)
    return buffer.getvalue()


def write_leakage(leakage: Leakage, path: Path) -> bytes:
    plot_leakage(leakage, path, corpus="python", model="tiny", split="test")
    return path.read_bytes()


def test_leakage_plot_is_a_png_and_deterministic(leakage: Leakage, tmp_path: Path) -> None:
    first = write_leakage(leakage, tmp_path / "a.png")
    assert first.startswith(b"\x89PNG")
    assert write_leakage(leakage, tmp_path / "b.png") == first
    assert b"Software" not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_leakage_plot_shows_the_figures(leakage: Leakage, tmp_path: Path) -> None:
    lower = [replace(p, bpb=p.bpb and p.bpb * 0.9) for p in leakage.curves["on"]]
    changed = replace(leakage, curves={**leakage.curves, "on": lower})
    unchanged = write_leakage(leakage, tmp_path / "a.png")
    assert write_leakage(changed, tmp_path / "b.png") != unchanged


@pytest.mark.parametrize("case", ["baseline alone", "no overlap", "one document"])
def test_leakage_plot_draws_what_there_is(make_table: Make, tmp_path: Path, case: str) -> None:
    table = make_table(
        documents=1 if case == "one document" else 9, with_overlap=case != "no overlap"
    )
    if case == "baseline alone":
        table = replace(table, nats={"baseline": table.nats["baseline"]})
    found = analyse(table, ALPHAS, "own_neighbours", Bootstrap(20))
    assert write_leakage(found, tmp_path / "plot.png").startswith(b"\x89PNG")


@pytest.mark.parametrize("rows", [sweep_rows(), sweep_rows()[:1], sweep_rows()[-1:]])
def test_sweep_plot_is_deterministic(rows: list[SweepRow], tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot_sweep(rows[:: -1 if name == "b.png" else 1], tmp_path / name, title="Sweep")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_tables_are_whole_in_80_columns(leakage: Leakage, make_table: Make) -> None:
    table = make_table()
    scores = {name: table.score(name) for name in table.nats}
    for renderable in (conditions_table(scores), leakage_table(leakage), sweep_table(sweep_rows())):
        text = printed(renderable)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80


def test_intervals_go_below_their_figures_before_words_are_broken() -> None:
    rows = [
        replace(row, settings=f"{row.k} {row.retriever}", leak_free=row.difference)
        for row in sweep_rows()
    ]
    more = {"split": "train", "stride": 128, "seed": 2}
    rows += [replace(row, settings=f"train {row.settings}", **more) for row in rows]
    for text in (printed(sweep_table(rows)), printed(report_table(by_settings(rows)))):
        words = {word for line in text.splitlines() for word in line.split()}
        assert {"retriever", "split", "stride", "train", "256", "faiss_flat", "byte"} <= words
    assert "(-0.0400..-0.0200)" in printed(sweep_table(rows)).split()


def test_nothing_of_a_report_is_left_out_where_many_columns_differ() -> None:
    rows = [replace(row, settings=f"{row.k} {row.retriever}") for row in sweep_rows()]
    other = "any training text (exact)"
    rows += [replace(row, split="validation", reference=other, seed=2) for row in rows]
    groups = by_settings(rows)
    for text in (printed(sweep_table(rows)), printed(report_table(groups))):
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80


def test_conditions_keep_their_brackets(make_table: Make) -> None:
    text = printed(conditions_table({name: Score(1.0, 1, 1) for name in make_table().nats}))
    for name in ("baseline", "plain", "backbone", "RETRO[random]", "RETRO[ON]"):
        assert name in text
    assert "1.4427" in text


def test_leakage_table_has_a_row_an_alpha_with_its_interval(leakage: Leakage) -> None:
    lines = printed(leakage_table(leakage)).splitlines()
    last, found = lines[-1].split(), leakage.difference("on", "plain", 1.0)
    assert found is not None
    assert last[0] == "1"
    assert last[2] == "100%"
    assert last[-2:] == [f"{found.delta_bpb:+.4f}", f"({found.low:+.4f}..{found.high:+.4f})"]
    assert len(lines) == 2 + len(leakage.alphas)


def test_probes_are_shown_minus_on_with_their_intervals(make_table: Make) -> None:
    table = make_table()
    more = {
        "shuffled": table.nats["random"] + 1.0,
        "filtered": table.nats["on"] + 2.0,
        "oracle": table.nats["on"] - 5.0,
    }
    table = replace(table, nats={**table.nats, **more})
    found = analyse(table, ALPHAS, "exact_corpus", Bootstrap(50))
    text = printed(probes_table(found))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}
    probes = ("OFF", "random", "shuffled", "filtered", "oracle")
    assert list(rows) == [f"RETRO[{name}]" for name in probes]
    on_shuffled = found.difference("on", "shuffled", 1.0)
    assert on_shuffled is not None
    assert on_shuffled.delta_bpb is not None
    assert rows["RETRO[shuffled]"][0] == f"{-on_shuffled.delta_bpb:+.4f}"
    assert rows["RETRO[filtered]"][0].startswith("+")
    assert rows["RETRO[oracle]"][0].startswith("-")
    assert "…" not in printed(leakage_table(found)), "they have a table of their own"


def test_an_empty_alpha_shows_dashes(make_table: Make) -> None:
    table = make_table()
    assert table.overlap is not None
    table.overlap.longest_run[:] = table.tokens
    found = analyse(table, [0.125], "own_neighbours", Bootstrap(20))
    first = printed(leakage_table(found)).splitlines()[2].split()
    assert first == ["0.125", "0", "0%", "0", "-", "-", "-", "-", "-"]


def test_sweep_table_puts_the_baseline_first_and_sorts_by_k() -> None:
    lines = printed(sweep_table(sweep_rows())).splitlines()[2:]
    order = [tuple(line.split()[:2]) for line in lines]
    of_k = [str(k) for k in (1, 2, 4)]
    expected = [(name, k) for name in ("bm25", "faiss_flat") for k in of_k]
    assert order == [("none", "-"), *expected]

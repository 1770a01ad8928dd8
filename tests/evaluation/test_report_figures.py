"""Contract of plots and tables: the same results give the same PNG, missing figures leave gaps
and not errors, and tables are whole on a terminal of 80 columns."""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib import image
from rich.console import Console, RenderableType

from retro_lab.evaluation.measure.leakage import Difference, Leakage, analyse
from retro_lab.evaluation.measure.metrics import Score
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.report.plots import leakage_figure, plot_leakage
from retro_lab.evaluation.report.sweep import SweepRow, with_differing_settings
from retro_lab.evaluation.report.sweep_plot import SweepPlan, plot_sweep, reference_scores
from retro_lab.evaluation.report.sweep_tables import part_tables, parts
from retro_lab.evaluation.report.tables import (
    conditions_table,
    leakage_table,
    probes_table,
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


def shown(rows: list[SweepRow], width: int = 80) -> str:
    return "".join(printed(t, width) for p in parts(rows) for t in part_tables(p))


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
    panels = leakage_figure(found, "tiny").axes
    assert len(panels) == (2 if case == "baseline alone" else 3)
    assert all(axes.lines or axes.patches for axes in panels), "no panel is empty"


def test_a_backbone_equal_to_the_baseline_is_one_curve_with_it(leakage: Leakage) -> None:
    def drawn(found: Leakage) -> list[str]:
        lines = leakage_figure(found, "tiny").axes[0].lines
        return [str(line.get_label()) for line in lines]

    assert {"baseline", "backbone"} <= set(drawn(leakage))
    one = replace(leakage, curves=leakage.curves | {"off": leakage.curves["baseline"]})
    assert "baseline = backbone" in drawn(one)
    assert len(drawn(one)) == len(drawn(leakage)) - 1


def test_a_sweep_draws_compared_models_as_level_lines_only() -> None:
    rows = sweep_rows()
    plan = SweepPlan.of(rows)
    assert all(row.k for row in plan.splits["test"]), "none has the score of the baseline"
    other = replace(rows[-1], score=rows[0].score)
    assert any(not row.k for row in SweepPlan.of([*rows[:-1], other]).splits["test"])
    assert len(reference_scores([*rows, other])) == 1


@pytest.mark.parametrize("rows", [sweep_rows(), sweep_rows()[:1], sweep_rows()[-1:]])
def test_sweep_plot_is_deterministic(rows: list[SweepRow], tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot_sweep(rows[:: -1 if name == "b.png" else 1], tmp_path / name, title="Sweep")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_tables_are_whole_in_80_columns(leakage: Leakage, make_table: Make) -> None:
    table = make_table()
    scores = {name: table.score(name) for name in table.nats}
    for renderable in (conditions_table(scores), leakage_table(leakage)):
        text = printed(renderable)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80


def test_a_narrow_terminal_gets_fewer_columns_and_no_broken_number(leakage: Leakage) -> None:
    text = printed(leakage_table(leakage), width=60)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 60
    assert "on - " in text
    assert "narrow terminal: without chunks" in text


def searched(keys: int, seeds: int) -> list[SweepRow]:
    """Rows that differ in many settings, as those of a search do."""
    names = ["optim.lr", "recipe.lr", "model.dropout", "model.encoder.num_layers"][:keys]
    rows = []
    for number, point in enumerate(sweep_rows()[:5]):
        own = dict.fromkeys(names, (number + 1) * 0.0012345678901)
        for seed in range(seeds):
            lines = json.dumps([flat_to_nested(own), "32-true"])
            bpb = replace(point.score, nats=point.score.nats * (1 + 0.01 * seed))
            key = f"{point.run_key}-{seed}"
            told = {"settings": lines, "flops": 1.234e18, "seconds": 7000.0, "k": 2}
            rows.append(replace(point, run_key=key, seed=seed, score=bpb, retriever="bm25", **told))
    return with_differing_settings(rows)


def flat_to_nested(flat: dict[str, float]) -> dict:
    nested: dict = {}
    for name, value in flat.items():
        node = nested
        *path, last = name.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return nested


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("keys", [1, 2, 3, 4])
def test_no_heading_and_no_number_of_a_report_is_broken(keys: int, seeds: int, width: int) -> None:
    rows = searched(keys, seeds)
    rows = [replace(row, leak_free=row.difference) for row in rows]
    text = shown(rows, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = {word for line in text.splitlines() for word in line.split()}
    for row in rows:
        for name, value in row.others.items():
            short = f"{value:.4g}"
            assert {short, f"{name}={short}"} & words
        if seeds == 1:
            assert f"{row.score.bpb:.4f}" in words
            assert row.difference is not None
            low, high = row.difference.low, row.difference.high
            assert f"({low:+.4f}..{high:+.4f})" in words
    assert {"baseline", "byte", "k"} <= words


def test_only_a_value_longer_than_a_line_is_broken() -> None:
    names = ("corpus.jsonl", "a-very-long-folder/" * 6)
    rows = [replace(row, corpus=name) for row in sweep_rows()[:2] for name in names]
    text = shown([replace(row, settings=None, leak_free=row.difference) for row in rows])
    assert max(map(len, text.splitlines())) <= 80
    words = {word for line in text.splitlines() for word in line.split()}
    assert {"settings", "baseline", "2.2900", "(-0.0200..+0.0000)"} <= words


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
    probes = ("random", "shuffled", "filtered", "oracle")
    assert list(rows) == ["backbone", *(f"RETRO[{name}]" for name in probes)]
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


def test_a_report_puts_the_baseline_first_and_sorts_by_k() -> None:
    lines = shown(sweep_rows()).splitlines()[3:]
    order = [tuple(line.split()[:2]) for line in lines if line[0] != " "]
    of_k = [str(k) for k in (1, 2, 4)]
    expected = [(name, k) for name in ("bm25", "faiss_flat") for k in of_k]
    assert order == [("none", "-"), *expected]


@pytest.mark.parametrize("keys", [1, 3])
def test_a_plot_of_a_search_and_of_two_splits_is_drawn(keys: int, tmp_path: Path) -> None:
    rows = searched(keys, seeds=1)
    both = [*rows, *(replace(row, split="validation") for row in rows)]
    plot_sweep(rows, tmp_path / "one.png", title="One")
    plot_sweep(both, tmp_path / "two.png", title="Two")
    one, two = (image.imread(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert two.shape[0] > 1.5 * one.shape[0], "a row of panels a split"


def test_a_panel_without_the_best_run_has_the_legend(tmp_path: Path) -> None:
    best, *others = searched(keys=3, seeds=1)
    score = replace(best.score, nats=best.score.nats / 2)
    best = replace(best, score=score, settings=json.dumps([{"optim": {"lr": 1.0}}, "32-true"]))
    rows = [replace(row, baseline=None) for row in (best, *others)]
    rows = with_differing_settings(rows)
    assert SweepPlan.of(rows).panels[0] == "optim.lr"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_sweep(rows, tmp_path / "sweep.svg", title="Sweep")
    assert "<!-- best -->" in (tmp_path / "sweep.svg").read_text()

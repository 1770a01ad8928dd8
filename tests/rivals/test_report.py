"""Contract: the rivals' figures follow from their nats, on the same parts of the text for all, and
a rival without a figure for some of the text has none for any part that holds it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from rival_text import small_store, subset_of

from retro_lab.config.errors import UserError
from retro_lab.evaluation.compressors.outcome import Outcome, Tuning
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap
from retro_lab.rivals import report, table
from retro_lab.rivals.report import Board, Entry

RNG = np.random.default_rng(0)
BOOTSTRAP = Bootstrap(samples=200)
TUNING = Tuning({"k": 1}, [{"k": 1, "bits_per_byte": 2.0}], 1.0)


@pytest.fixture
def board() -> Board:
    subset = subset_of(small_store(), "test")
    size = len(subset.rows)
    run = np.where(np.arange(size) % 3 == 0, 0, subset.tokens).astype(np.int32)
    chunks = ChunkTable(
        document_id=np.array([f"document {d}" for d in subset.document], object),
        chunk_index=np.asarray(subset.store.index)[subset.rows],
        tokens=subset.tokens,
        bytes=subset.bytes,
        with_retrieval=subset.tokens,
        nats={"on": RNG.random(size) * 5, "baseline": RNG.random(size) * 9},
        neighbours=np.zeros((size, 1), np.int64),
        overlap=Overlap(run, np.zeros(size, bool)),
    )
    return Board(subset, subset.drawn(0, documents=1), chunks)


def entry(subset: Subset, name: str, nats: np.ndarray) -> Entry:
    outcome = Outcome.by_chunk(subset, nats, tuning=TUNING, seconds=3.0, parameters=10)
    return Entry(name, name.upper(), subset, outcome)


class OfTwo(Bootstrap):
    """Intervals of as few as two documents."""

    fewest = 2


def test_documents_are_those_with_text() -> None:
    store = small_store()
    assert subset_of(store, "test").documents.tolist() == [8, 10]  # 9 is a boundary alone
    drawn = subset_of(store, "train").drawn(3, documents=2).documents.tolist()
    assert drawn == subset_of(store, "train").drawn(3, documents=2).documents.tolist()
    some = subset_of(store, "train").drawn(0, tokens=30)
    assert 30 <= some.tokens.sum() < subset_of(store, "train").tokens.sum()


def test_figures_are_sums_over_each_part(board: Board) -> None:
    nats = RNG.random(len(board.subset.rows)) * 7
    figures = board.row(entry(board.subset, "x", nats), OfTwo(100)).figures
    clean = np.arange(len(nats)) % 3 == 0
    for part, kept in {"all": nats > -1, "leak_free": clean, "subsample": board.sampled}.items():
        figure = figures[part]
        assert figure is not None
        num_bytes = board.subset.bytes[kept].sum()
        bits = nats[kept].sum() / math.log(2) / num_bytes
        retro = board.own("on")[kept].sum() / math.log(2) / num_bytes
        assert figure.bits_per_byte == pytest.approx(bits)
        assert figure.difference == pytest.approx(bits - retro)
        assert (figure.tokens, figure.bytes) == (board.subset.tokens[kept].sum(), num_bytes)
        if figure.documents > 1:
            assert figure.low is not None
            assert figure.high is not None
            assert figure.difference is not None
            assert figure.low <= figure.difference <= figure.high


def test_a_rival_of_the_subsample_has_no_other_figure(board: Board) -> None:
    subset = board.subset.drawn(0, documents=1)
    nats = RNG.random(len(subset.rows))
    figures = board.row(entry(subset, "x", nats), BOOTSTRAP).figures
    assert figures["all"] is None
    assert figures["leak_free"] is None
    assert figures["subsample"] is not None
    assert figures["subsample"].nats == pytest.approx(nats.sum())


def test_a_rival_of_whole_documents_has_no_figure_for_some_of_their_chunks(board: Board) -> None:
    nats = np.array([50.0, 70.0])
    one = Entry("xz", "xz", board.subset, Outcome(nats, None, TUNING, 1.0))
    row = board.row(one, BOOTSTRAP)
    assert row.document_nats == {"document 8": 50.0, "document 10": 70.0}
    assert row.figures["leak_free"] is None
    assert row.figures["all"] is not None
    assert row.figures["all"].nats == 120.0
    sampled = board.subset.drawn(0, documents=1).documents[0]
    assert row.figures["subsample"] is not None
    assert row.figures["subsample"].nats == nats[board.subset.documents == sampled][0]


def test_other_tokens_are_refused(board: Board) -> None:
    other = subset_of(small_store(1), "test")
    with pytest.raises(ValueError, match=r"chunks\.parquet"):
        Board(other, other, board.table)


def test_what_is_written_is_read_again_and_shown(board: Board, tmp_path: Path) -> None:
    part = board.subset.drawn(0, documents=1)
    entries = [
        entry(board.subset, "on", board.own("on")),
        entry(board.subset, "knn_lm", board.own("baseline")),
        entry(part, "ralm_4", np.ones(len(part.rows))),
    ]
    named = {"documents": ["a", "b"], "split": "test"}
    about = {
        "bootstrap": {"samples": 100, "confidence": 0.95, "seed": 0},
        **dict.fromkeys(("scored", "subsample", "tuned_on"), named),
    }
    report.save(tmp_path, board, entries, about)
    columns = pq.read_table(tmp_path / "rivals.parquet")
    assert np.array_equal(columns["nats_knn_lm"].to_numpy(), board.own("baseline"))
    assert columns["nats_ralm_4"].null_count == (~board.sampled).sum()
    record = table.load(tmp_path)
    assert record["rivals"][0]["figures"]["all"]["difference"] is None
    console = Console(width=80, record=True)
    console.print(table.rivals_table(record))
    shown = console.export_text()
    assert "KNN_LM" in shown
    assert "RALM_4 *" in shown
    assert "…" not in shown
    with pytest.raises(UserError, match="does not exist"):
        table.load(tmp_path / "elsewhere")


def notes_of(
    chosen: dict[str, float], trials: list[dict[str, float]], **facts: object
) -> str | None:
    named = {"documents": ["a"], "split": "test"}
    figure = {"bits_per_byte": 1.0, "difference": 0.5, "low": None, "high": None}
    row = {
        "label": "equal",
        "figures": {"all": figure},
        "seconds": 1.0,
        "parameters": None,
        "datastore_bytes": 0,
        "facts": facts,
        "tuning": {"chosen": chosen, "trials": trials},
    }
    record = {**dict.fromkeys(("scored", "subsample", "tuned_on"), named), "rivals": [row]}
    caption = table.rivals_table(record).caption
    return None if caption is None else str(caption)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "-"), (5_460_000, "5.5"), (1_521_300_000, "1,521")]
)
def test_megabytes_are_short(count: int, shown: str) -> None:
    assert table._megabytes(count) == shown


def test_a_choice_at_the_end_of_its_grid_is_said() -> None:
    trials: list[dict[str, float]] = [{"order": n, "own": own} for n in (3, 4, 5) for own in (0, 1)]
    assert notes_of({"order": 4, "own": 1}, trials) is None
    assert "more may be better: equal (order=5)" in str(notes_of({"order": 5, "own": 1}, trials))


def test_a_rival_that_learns_better_at_another_rate_questions_the_runs_own() -> None:
    trials = [{"lr_factor": factor} for factor in (0.5, 1.0, 2.0, 4.0)]
    assert notes_of({"lr_factor": 1.0}, trials) is None
    assert "best at 2 times the run's optim.lr" in str(notes_of({"lr_factor": 2.0}, trials))


def test_a_sum_that_is_not_one_is_said() -> None:
    asked = {"places": 8, "total": 1.3, "gap": 0.25, "passed": False}
    said = str(notes_of({}, [], distribution=asked))
    assert "FAILED: equal is no distribution" in said
    assert "1.3000" in said
    said = str(notes_of({}, [], distribution=asked | {"passed": True}))
    assert "FAILED" not in said
    assert "1 of 1 rows" in said


def test_rivals_are_also_compared_with_the_plain_model(board: Board, tmp_path: Path) -> None:
    board.table.nats["plain"] = RNG.random(len(board.subset.rows)) * 7
    theirs = RNG.random(len(board.subset.rows)) * 7
    both = [
        entry(board.subset, name, nats)
        for name, nats in {"plain": board.own("plain"), "x": theirs}.items()
    ]
    plain, other = (board.row(each, OfTwo(100)).figures["all"] for each in both)
    assert plain is not None
    assert other is not None
    assert plain.against_plain is None
    found = other.against_plain
    assert found is not None
    assert plain.bits_per_byte is not None
    assert found.difference == pytest.approx(other.bits_per_byte - plain.bits_per_byte)
    assert found.low is not None
    assert found.low <= found.difference <= (found.high or 0)
    named = {"documents": ["a", "b"], "split": "test"}
    about = {
        "bootstrap": {"samples": 100, "confidence": 0.95, "seed": 0},
        **dict.fromkeys(("scored", "subsample", "tuned_on"), named),
    }
    report.save(tmp_path, board, both, about)
    _, against = table.rivals_tables(table.load(tmp_path))
    assert [row[0] for row in against.rows] == ["X"]


def test_a_run_without_retrieval_is_its_own_plain_model(board: Board) -> None:
    """Its memory is compared with, and r(C) is that of all text where it was measured."""
    size = len(board.subset.rows)
    assert (board.reference, board.plain) == ("on", "plain")
    copied = np.where(np.arange(size) % 2 == 0, 0, board.subset.tokens).astype(np.int32)
    nats = {name: RNG.random(size) for name in ("baseline", "memory")}
    exact = Overlap(copied, np.zeros(size, bool))
    own = Board(board.subset, board.subset, replace(board.table, nats=nats, exact=exact))
    assert (own.reference, own.plain) == ("memory", "baseline")
    assert np.array_equal(own.parts["leak_free"], copied == 0)
    figure = own.row(entry(own.subset, "x", np.ones(size)), OfTwo(100)).figures["all"]
    assert figure is not None
    assert figure.against_plain is not None
    for difference, name in (
        (figure.difference, "memory"),
        (figure.against_plain.difference, "baseline"),
    ):
        less = (size - nats[name].sum()) / math.log(2) / own.subset.bytes.sum()
        assert difference == pytest.approx(less)
    alone = Board(board.subset, board.subset, replace(own.table, nats={"baseline": nats["memory"]}))
    assert alone.reference is None

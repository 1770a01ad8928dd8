"""Contract of the gain by overlap, place and document: the parts add up to the whole, planted
effects are found where they were planted, and tables and plot show them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from older import without_checksums
from rich.console import Console

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.gain import Gain, gain
from retro_lab.evaluation.measure.leakage import analyse
from retro_lab.evaluation.measure.ngram_overlap import Similarity
from retro_lab.evaluation.measure.overlap import overlap_ratio
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.gain_file import load_gain, save_gain
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.evaluation.report.gain_plot import gain_figure, plot_gain
from retro_lab.evaluation.report.tables import gain_tables

Make = Callable[..., ChunkTable]
FEW = Bootstrap(50)


def printed(found: Gain, reference: str | None = "exact_corpus", width: int = 80) -> str:
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None)
    for table in gain_tables(found, reference):
        console.print(table)
    return buffer.getvalue()


def test_parts_add_up_to_the_reported_difference(make_table: Make) -> None:
    table = make_table()
    found = gain(table, FEW)
    reported = analyse(table, [1.0], "own", FEW).difference("on", "plain", 1.0)
    assert reported is not None
    assert found.total.bpb == pytest.approx(-reported.delta_bpb)  # pyright: ignore
    assert (found.total.low, found.total.high) == pytest.approx((-reported.high, -reported.low))  # pyright: ignore
    for parts in (found.by_position, found.by_document):
        assert sum(part.chunks for part in parts) == len(table)
        assert sum(part.bytes for part in parts) == table.bytes.sum()
        assert math.fsum(part.gain for part in parts) == pytest.approx(found.total.gain)
    readers = table.with_retrieval > 0
    assert sum(part.chunks for part in found.by_overlap) == readers.sum()
    assert sum(part.bytes for part in found.by_overlap) == table.bytes[readers].sum()


def test_gain_rises_with_overlap_where_that_was_planted(make_table: Make) -> None:
    found = gain(make_table(documents=200), FEW)
    bits = [part.bpb for part in found.by_overlap]
    assert bits == sorted(bits, key=lambda b: b or 0.0)
    assert found.correlation is not None
    assert found.correlation.rho is not None
    assert found.correlation.rho > 0.99


def test_bins_are_the_chunks_between_their_edges(make_table: Make) -> None:
    table = make_table()
    assert table.overlap is not None
    table.tokens[:], table.overlap.longest_run[:] = 64, 8
    table.overlap.longest_run[0] = 9
    table = replace(table, with_retrieval=np.ones_like(table.tokens))
    counts = [part.chunks for part in gain(table, FEW).by_overlap]
    assert counts == [len(table) - 1, 1, 0, 0, 0, 0, 0, 0]


def test_correlation_is_spearmans(make_table: Make) -> None:
    from scipy.stats import spearmanr

    table = make_table()
    rng = np.random.default_rng(3)
    table = replace(table, nats={**table.nats, "on": rng.permutation(table.nats["on"])})
    readers = table.with_retrieval > 0
    assert table.overlap is not None
    ratio = overlap_ratio(table.overlap.longest_run, table.tokens)[readers]
    per_token = ((table.nats["plain"] - table.nats["on"]) / table.tokens)[readers]
    found = gain(table, FEW).correlation
    assert found is not None
    assert found.rho == pytest.approx(spearmanr(ratio, per_token).statistic)
    assert found.chunks == readers.sum()


def test_chunks_that_read_nothing_are_no_part_of_overlap(make_table: Make) -> None:
    table = make_table()
    nothing = replace(table, with_retrieval=np.zeros_like(table.tokens))
    found = gain(nothing, FEW)
    assert found.correlation is not None
    assert found.correlation == type(found.correlation)(None, 0)
    assert {part.chunks for part in found.by_overlap} == {0}


def test_positions_double(make_table: Make) -> None:
    table = make_table()
    table.chunk_index[:] = np.arange(len(table))
    names = [part.name for part in gain(table, FEW).by_position]
    assert names[:5] == ["0", "1", "2-3", "4-7", "8-15"]
    chunks = [part.chunks for part in gain(table, FEW).by_position]
    assert chunks[:5] == [1, 1, 2, 4, 8]


@pytest.mark.parametrize("documents", [1, 2, 5, 19, 20, 40])
def test_ends_never_name_a_document_twice(make_table: Make, documents: int) -> None:
    found = gain(make_table(documents=documents), FEW)
    greatest, smallest = found.ends()
    names = [part.name for part in [*greatest, *smallest]]
    assert len(set(names)) == len(names) == min(documents, 20)
    gains = [part.gain for part in found.by_document]
    assert gains == sorted(gains, reverse=True)
    assert [*greatest, *smallest][-1] == found.by_document[-1]


def test_a_condition_that_was_not_scored_is_a_user_error(make_table: Make) -> None:
    table = make_table()
    alone = replace(table, nats={"on": table.nats["on"], "off": table.nats["off"]})
    with pytest.raises(UserError, match="'plain' was not scored; the run has on, off"):
        gain(alone, FEW)
    assert gain(alone, FEW, b="off").total.gain > 0


def test_tables_are_whole_in_80_columns_and_name_the_reference(make_table: Make) -> None:
    found = gain(make_table(), FEW)
    text = printed(found)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "any training text (exact)" in " ".join(text.split())
    assert found.correlation is not None
    assert found.score_correlation is not None
    for correlation in (found.correlation, found.score_correlation):
        assert f"Spearman {correlation.rho:+.3f}" in " ".join(text.split())
    for part in (*found.by_overlap, *found.by_score, *found.by_rank, *found.by_position):
        assert part.bpb is None or f"{part.bpb:+.4f}" in text
    assert "own neighbours (bm25)" in " ".join(printed(found, "own_neighbours (bm25)").split())


def test_a_table_without_overlap_has_the_rest(make_table: Make) -> None:
    found = gain(make_table(with_overlap=False), FEW)
    assert (found.by_overlap, found.correlation) == ([], None)
    assert "r(C)" not in printed(found, None)
    assert "by chunk of the document" in printed(found, None)


@pytest.mark.parametrize("case", ["all", "no overlap", "one document", "odd names"])
def test_plot_is_deterministic(make_table: Make, tmp_path: Path, case: str) -> None:
    table = make_table(
        documents=1 if case == "one document" else 25, with_overlap=case != "no overlap"
    )
    if case == "odd names":
        table.document_id[:] = [f"$x^{name}$ {'long ' * 20}" for name in table.document_id]
    for name in ("a.png", "b.png"):
        plot_gain(
            gain(table, FEW), tmp_path / name, corpus="c", model="m", reference="exact_corpus"
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_not_measured_has_no_panel(make_table: Make) -> None:
    found = gain(make_table(documents=20), FEW)
    without = replace(found, by_rank=[], by_score=[])
    counts = []
    for each in (found, without):
        panels = gain_figure(each, "exact_corpus").axes
        assert all(axes.lines or axes.patches or axes.texts for axes in panels), "none is empty"
        counts.append(len(panels))
    assert counts[0] - counts[1] == bool(found.by_rank) + bool(found.by_score) == 2


def test_parts_by_rank_and_score_hold_every_reader(make_table: Make) -> None:
    table = make_table(documents=60)
    found = gain(table, FEW)
    readers = (table.with_retrieval > 0) & (table.neighbours >= 0).any(axis=1)
    for parts in (found.by_rank, found.by_score):
        assert sum(part.chunks for part in parts) == readers.sum()
        assert sum(part.bytes for part in parts) == table.bytes[readers].sum()
    assert table.reading is not None
    runs = table.reading.runs[readers]
    assert [part.name for part in found.by_rank] == ["none", "1", "2", "several"]
    none, first, second, several = (part.chunks for part in found.by_rank)
    assert none == (runs.max(axis=1) < 4).sum()
    assert first == ((runs[:, 0] > runs[:, 1]) & (runs[:, 0] >= 4)).sum()
    assert second == ((runs[:, 1] > runs[:, 0]) & (runs[:, 1] >= 4)).sum()
    assert several == ((runs[:, 0] == runs[:, 1]) & (runs[:, 0] >= 4)).sum() > 0
    assert found.score_correlation is not None
    assert found.score_correlation.chunks == readers.sum()
    old = gain(replace(table, reading=None), FEW)
    assert (old.by_rank, old.by_score, old.score_correlation) == ([], [], None)


def test_the_file_holds_all_that_was_found(make_table: Make, tmp_path: Path) -> None:
    table = make_table()
    path = tmp_path / "gain.json"
    for found in (gain(table, FEW), gain(replace(table, reading=None, overlap=None), FEW, b="off")):
        save_gain(found, path)
        first = path.read_bytes()
        assert load_gain(path) == found
        save_gain(load_gain(path), path)
        assert path.read_bytes() == first
    without_checksums(tmp_path)
    path.write_bytes(first.replace(b'"schema_version": 1', b'"schema_version": 2'))
    with pytest.raises(UserError, match=r"gain\.json has schema_version 2, expected 1"):
        load_gain(path)


def test_gain_by_score_finds_what_was_planted(make_table: Make) -> None:
    table = make_table(documents=60)
    assert table.reading is not None
    saved = (table.nats["plain"] - table.nats["on"]) / table.tokens
    table.reading.scores[:] = np.where(table.neighbours >= 0, saved[:, None], -np.inf)
    found = gain(table, FEW)
    bits = [part.bpb or 0.0 for part in found.by_score]
    assert bits == sorted(bits)
    assert len(bits) == 5
    assert found.score_correlation is not None
    assert found.score_correlation.rho is not None
    assert found.score_correlation.rho > 0.999


def test_gain_by_place_is_that_of_tokens_that_could_read(make_table: Make) -> None:
    table = make_table()
    row = np.repeat(np.arange(len(table)), table.tokens)
    place = np.concatenate([np.arange(n) for n in table.tokens]).astype(np.int16)
    ones, reads = np.ones(len(row)), table.chunk_index[row] > 0
    nats = {"on": ones * 2, "plain": ones * 2 + (place < 8)}
    integers = np.ones(len(row), np.int32)
    tokens = TokenTable(row, place, integers, integers * 3, reads, nats)
    found = gain(table, FEW, tokens).by_place
    assert [part.name for part in found][:2] == ["0-7", "8-15"]
    assert len(found) == 8
    assert sum(part.chunks for part in found) == reads.sum()
    assert found[0].bpb == pytest.approx(1 / 3 / math.log(2))
    assert {part.bpb for part in found[1:]} == {0.0}
    assert gain(table, FEW).by_place == []


def test_similarity_survives_the_file(make_table: Make, tmp_path: Path) -> None:
    table = make_table()
    share = np.linspace(0, 1, len(table))
    replace(table, similarity=Similarity(share, share**2)).save(tmp_path / "chunks.parquet")
    read = ChunkTable.load(tmp_path / "chunks.parquet").similarity
    assert read is not None
    assert (read.unigram == share).all()
    assert (read.jaccard == share**2).all()
    table.save(tmp_path / "chunks.parquet")
    assert ChunkTable.load(tmp_path / "chunks.parquet").similarity is None

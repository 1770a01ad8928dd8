"""Contract of comparisons between runs: paired on the same chunks, differences as a plain sum gives
them, filtered alike, and runs that scored other text refused with what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.comparison import compare
from retro_lab.evaluation.measure.overlap import within
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap

Make = Callable[..., ChunkTable]
FEW = Bootstrap(100)


def better(table: ChunkTable, nats_a_token: float) -> ChunkTable:
    return replace(table, nats={"on": table.nats["on"] - nats_a_token * table.tokens})


def test_differences_are_paired_from_the_first_run(make_table: Make) -> None:
    table = make_table()
    rows = compare({"a": table, "b": better(table, 0.1)}, FEW)
    assert [(row.name, row.alpha) for row in rows] == [
        *(("a", 1.0), ("b", 1.0)),
        *(("a", 0.125), ("b", 0.125)),
    ]
    assert rows[0].difference is None
    assert rows[0].score.bpb == pytest.approx(table.score("on").bpb)
    found = rows[1].difference
    assert found is not None
    assert found.delta_bpb == pytest.approx(rows[1].score.bpb - rows[0].score.bpb)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.delta_bpb <= found.high < 0  # pyright: ignore[reportOperatorIssue]
    assert found.documents == 30


def test_a_run_without_retrieval_is_compared_by_its_only_condition(make_table: Make) -> None:
    table = make_table()
    alone = replace(table, nats={"baseline": table.nats["baseline"]}, overlap=None)
    rows = compare({"none": alone, "a": table}, FEW)
    assert [row.condition for row in rows[:2]] == ["baseline", "on"]
    assert len(rows) == 4, "the overlap of one run filters both"


def test_runs_are_filtered_by_the_longest_run_of_any(make_table: Make) -> None:
    table = make_table()
    assert table.overlap is not None
    other = np.random.default_rng(9).integers(0, table.tokens + 1).astype(np.int32)
    both = {"a": table, "b": replace(table, overlap=Overlap(other, table.overlap.partial))}
    rows = compare(both, FEW)
    longest = np.maximum(other, table.overlap.longest_run)
    kept = within(0.125, longest, table.tokens)
    assert {row.score.tokens for row in rows[2:]} == {int(table.tokens[kept].sum())}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("documents", "scored other documents"),
        ("text", "text of their documents differs"),
        ("tokens", "cut into other tokens or chunks"),
    ],
)
def test_runs_on_other_text_are_refused(make_table: Make, change: str, words: str) -> None:
    table = make_table()
    other = make_table()
    if change == "documents":
        other.document_id[0] = "another"
    if change == "text":
        other.bytes[0] += 1
    if change == "tokens":
        other.tokens[:2] += [1, -1]
    with pytest.raises(UserError, match=words):
        compare({"a": table, "b": other}, FEW)

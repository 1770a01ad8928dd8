"""Contract of bpb(alpha): bpb(1) is the unfiltered value bit for bit, sets of chunks only grow
with alpha, all conditions are on the same chunks, and an empty set is null, with a note."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from retro_lab.evaluation.measure.leakage import analyse
from retro_lab.evaluation.measure.metrics import ChunkScores
from retro_lab.evaluation.measure.statistics import FEWEST, Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap
from retro_lab.evaluation.report.verdict_words import copies_in_words

Make = Callable[..., ChunkTable]
ALPHAS = [0.125, 0.25, 0.5, 0.75, 1.0]
FAST = Bootstrap(samples=200)
OWN = "own_neighbours"


def test_bpb_of_one_is_the_unfiltered_value_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    tokens = np.where(rng.random(5000) < 0.5, rng.integers(1, 65, 5000), 0)
    nats = 1e-5 * tokens * rng.lognormal(0, 5, 5000)  # magnitudes whose float sums depend on order
    scores = ChunkScores(nats, tokens, tokens * 3, tokens * 0)
    rows = scores.rows
    run = rng.integers(0, tokens[rows] + 1).astype(np.int32)
    table = ChunkTable.from_scores(
        {"on": scores},
        [f"d{row // 9}" for row in rows],
        np.arange(len(rows)) % 9,
        np.zeros((len(rows), 0)),
        Overlap(run, tokens[rows] < 64),
    )
    unfiltered = analyse(table, ALPHAS, OWN, FAST).curves["on"][-1]
    assert table.score("on") == scores.total()
    assert unfiltered.bpb == scores.total().bpb
    assert unfiltered.ppl == scores.total().ppl
    assert unfiltered.chunks == len(rows)


def test_a_point_equals_a_plain_loop(make_table: Make) -> None:
    table = make_table()
    assert table.overlap is not None
    point = analyse(table, [0.5], OWN, FAST).curves["on"][0]
    kept = [i for i in range(len(table)) if 2 * table.overlap.longest_run[i] <= table.tokens[i]]
    nats = sum(table.nats["on"][i] for i in kept)
    num_bytes = sum(int(table.bytes[i]) for i in kept)
    assert point.bpb == pytest.approx(nats / (math.log(2) * num_bytes))
    assert (point.chunks, point.bytes) == (len(kept), num_bytes)
    assert point.documents == len({table.document_id[i] for i in kept})
    assert 0 < len(kept) < len(table)


def test_sets_grow_with_alpha_and_are_shared_by_all_conditions(make_table: Make) -> None:
    leakage = analyse(make_table(), ALPHAS, OWN, FAST)
    sizes = {
        name: [(p.chunks, p.tokens, p.bytes, p.documents) for p in points]
        for name, points in leakage.curves.items()
    }
    assert len({tuple(of_condition) for of_condition in sizes.values()}) == 1
    counts = np.array(sizes["on"])
    assert (np.diff(counts, axis=0) >= 0).all()
    assert (counts[0] < counts[-1]).all()


def test_conditions_are_in_the_order_they_are_shown(make_table: Make) -> None:
    shown = "baseline plain off random on"
    assert list(analyse(make_table(), [1], OWN, FAST).curves) == shown.split()


def test_alphas_are_sorted_and_one_is_always_there(make_table: Make) -> None:
    assert analyse(make_table(), [0.5, 0.25, 0.5], OWN, FAST).alphas == [0.25, 0.5, 1.0]
    with pytest.raises(ValueError, match="shares"):
        analyse(make_table(), [12.5], OWN, FAST)


def test_an_empty_set_is_null_with_a_note(make_table: Make) -> None:
    table = make_table()
    run = np.maximum(table.tokens // 2, 1).astype(np.int32)
    table = ChunkTable(**{**vars_of(table), "overlap": Overlap(run, run < 0)})
    leakage = analyse(table, ALPHAS, OWN, FAST)
    empty = leakage.curves["on"][0]
    assert (empty.bpb, empty.ppl, empty.chunks, empty.bytes, empty.documents) == (
        None,
        None,
        0,
        0,
        0,
    )
    difference = leakage.difference("on", "baseline", 0.125)
    assert difference is not None
    assert (difference.delta_bpb, difference.low, difference.high) == (None, None, None)
    words = {
        (0.125,): "r(C) <= 0.125: there is no figure at this alpha.",
        (0.125, 0.25): "r(C) <= 0.25: there is no figure at this alpha or a smaller one.",
    }
    for alphas, said in words.items():
        notes = analyse(table, alphas, OWN, FAST).notes
        assert [n for n in notes if "no figure" in n] == [f"No scored chunk has {said}"]


@pytest.mark.parametrize("documents", [1, FEWEST - 1])
def test_few_documents_give_a_difference_without_an_interval(
    make_table: Make, documents: int
) -> None:
    leakage = analyse(make_table(documents=documents), [1], OWN, FAST)
    difference = leakage.difference("on", "baseline", 1.0)
    assert difference is not None
    assert difference.delta_bpb is not None
    assert difference.delta_bpb < 0
    assert (difference.low, difference.high, difference.documents) == (None, None, documents)
    assert [n for n in leakage.notes if "Too few" in n] == [
        f"Too few documents were scored for an interval: {documents}, and {FEWEST} are the fewest "
        "that give one."
    ]


def test_the_largest_alpha_without_an_interval_is_named_once(make_table: Make) -> None:
    table = make_table(documents=FEWEST + 2)
    assert table.overlap is not None
    table.tokens[:], table.overlap.longest_run[:] = 64, 40
    table.overlap.longest_run[table.document < FEWEST - 2] = 20
    table.overlap.longest_run[0] = 4
    notes = [n for n in analyse(table, ALPHAS, OWN, FAST).notes if "Too few" in n]
    assert len(notes) == 1
    assert f"have chunks with r(C) <= 0.5 for an interval: {FEWEST - 2}," in notes[0]
    enough = analyse(make_table(documents=FEWEST), [1], OWN, FAST)
    assert not any("Too few" in note for note in enough.notes)


def test_differences_pair_the_same_chunks(make_table: Make) -> None:
    leakage = analyse(make_table(), ALPHAS, OWN, FAST)
    pairs = {(d.a, d.b) for d in leakage.differences}
    assert pairs == {
        *(("on", other) for other in ("plain", "baseline", "random", "off")),
        *((name, other) for name in ("off", "random") for other in ("plain", "baseline")),
        ("plain", "baseline"),
    }
    assert len(leakage.differences) == 9 * len(ALPHAS)
    for d in leakage.differences:
        index = leakage.alphas.index(d.alpha)
        a, b = leakage.curves[d.a][index], leakage.curves[d.b][index]
        assert a.bpb is not None
        assert b.bpb is not None
        assert d.delta_bpb == a.bpb - b.bpb
        assert d.low is not None
        assert d.high is not None
        if (d.a, d.b) == ("plain", "baseline"):  # they have the same scores in this table
            assert d.low == d.delta_bpb == d.high == 0
        else:
            assert d.low < d.delta_bpb < d.high
        assert d.documents == a.documents


def test_without_overlap_there_is_the_unfiltered_value_and_a_note(make_table: Make) -> None:
    leakage = analyse(make_table(with_overlap=False), ALPHAS, OWN, FAST)
    assert leakage.alphas == [1.0]
    assert leakage.reference is None
    assert any("not measured" in note for note in leakage.notes)
    full = analyse(make_table(), ALPHAS, OWN, FAST)
    assert leakage.curves["on"][0] == full.curves["on"][-1]


@pytest.mark.parametrize(("copied", "noted"), [(0, False), (1, False), (3, True), (200, True)])
def test_copies_are_noted_when_they_hold_more_than_a_percent(
    make_table: Make, copied: int, noted: bool
) -> None:
    table = make_table(documents=50)
    assert table.overlap is not None
    table.tokens[:], table.bytes[:], table.overlap.longest_run[:] = 64, 200, 56  # 0.875 is none
    table.overlap.longest_run[:copied] = 57
    leakage = analyse(table, [0.5], OWN, FAST)
    saved = table.nats["plain"] - table.nats["on"]
    assert leakage.copies is not None
    assert (leakage.copies.chunks, leakage.copies.bytes) == (copied, 200 * copied)
    assert leakage.copies.documents == len(set(table.document[:copied]))
    share = saved[:copied].sum() / saved.sum()
    assert leakage.copies.share_of_saving == pytest.approx(share, abs=1e-12)
    sentences = copies_in_words(leakage)
    said = f"{copied} chunks ({100 * copied / len(table):.1f} % of the bytes; in "
    assert len(table) > 200
    assert [said in sentence for sentence in sentences] == [True] * noted


def vars_of(table: ChunkTable) -> dict[str, object]:
    return {name: getattr(table, name) for name in ChunkTable.__dataclass_fields__}

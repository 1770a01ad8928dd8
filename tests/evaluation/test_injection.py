"""Contract of the leak experiment's statistics: the sets are every chunk once, a dose is compared
with the very same chunks without it, filtered sets follow the dose's own r(C), and the verdict
says no more than the figures.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from older import without_checksums
from rich.console import Console

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.injection import (
    FIRST,
    FIRST_FILTERED,
    INJECTED,
    INJECTION_FILE,
    REST,
    SECOND,
    SECOND_FILTERED,
    SETS,
    Dose,
    DoseFigures,
    Injection,
    figures_of,
    memory_figures_of,
    nothing_planted,
    sets_of,
)
from retro_lab.evaluation.measure.leakage import Difference
from retro_lab.evaluation.measure.overlap import within
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable, Overlap
from retro_lab.evaluation.report.injection_plot import plot_injection
from retro_lab.evaluation.report.injection_verdict import injection_verdict, is_flat, of_memory
from retro_lab.evaluation.report.tables import injection_table

Make = Callable[..., ChunkTable]
FEW = Bootstrap(100)
SHARES = (0.0, 0.1, 0.5)


@pytest.fixture
def table(make_table: Make) -> ChunkTable:
    return make_table(documents=40)


def first_half(table: ChunkTable) -> list[str]:
    return list(dict.fromkeys(table.document_id))[::2]


def dosed(table: ChunkTable, share: float, drift: float = 0.0) -> Dose:
    """Injected chunks are copies and cost a nat each; all other text costs `drift` a byte more."""
    half = first_half(table)
    planted = half[: int(share * len(half))]
    hit = np.isin(table.document_id, planted)
    assert table.overlap is not None
    run = np.where(hit, table.tokens, table.overlap.longest_run).astype(np.int32)
    nats = {**table.nats, "on": np.where(hit, 1.0, table.nats["on"] + drift * table.bytes)}
    read = np.where(hit[:, None], 1000, table.neighbours)
    overlap = Overlap(run, table.overlap.partial)
    return Dose(
        share, planted, f"{share:g}", replace(table, nats=nats, neighbours=read, overlap=overlap)
    )


def experiment(table: ChunkTable, drift: float = 0.0, bootstrap: Bootstrap = FEW) -> Injection:
    half = first_half(table)
    doses = [dosed(table, share, drift if share else 0.0) for share in SHARES]
    figures = figures_of(doses, half, bootstrap)
    return Injection("key", {"k": None}, "own_neighbours (bm25)", bootstrap, [20, 20], figures)


def with_memory(dose: Dose) -> Dose:
    """With a memory that costs a fifth of RETRO[ON]; the second chunk in three is copied text."""
    table, copied = dose.table, np.arange(len(dose.table)) % 3 == 1
    exact = Overlap(np.where(copied, table.tokens, 0).astype(np.int32), np.zeros(len(table), bool))
    nats = {**table.nats, "memory": table.nats["on"] / 5}
    return replace(dose, table=replace(table, nats=nats, exact=exact))


def remembered(table: ChunkTable) -> Injection:
    """`experiment` with a memory."""
    doses = [with_memory(dosed(table, share)) for share in SHARES]
    figures = memory_figures_of(doses, first_half(table), FEW)
    return replace(experiment(table), memory=figures)


def bits(figures: DoseFigures, name: str) -> float:
    found = figures.sets[name]
    return (found.change.delta_bpb or 0.0) * found.bytes


def test_a_memory_is_told_like_retro_and_filtered_by_all_that_it_read(
    table: ChunkTable, tmp_path: Path
) -> None:
    found = remembered(table)
    of = of_memory(found)
    assert of is not None
    assert of.condition == "memory"
    for ours, retro in zip(of.doses, found.doses, strict=True):
        for name in (INJECTED, REST, SECOND, FIRST):
            assert ours.sets[name].chunks == retro.sets[name].chunks
            change = ours.sets[name].change.delta_bpb
            if change is not None:
                assert change == pytest.approx((retro.sets[name].change.delta_bpb or 0) / 5)
        copied = np.arange(len(table)) % 3 == 1
        second = ~np.isin(table.document_id, first_half(table))
        assert ours.sets[SECOND_FILTERED].chunks == (second & ~copied).sum()
    shown = io.StringIO()
    Console(file=shown, width=80).print(injection_table(of))
    assert "memory minus memory at 0 %" in shown.getvalue()
    assert "The model with memory on all of the first half" in injection_verdict(of).sentences[0]
    found.save(tmp_path)
    assert Injection.load(tmp_path) == found
    without = [dosed(table, share) for share in SHARES]
    assert memory_figures_of(without, first_half(table), FEW) is None
    assert of_memory(experiment(table)) is None


@given(st.data())
def test_the_sets_are_every_chunk_once(data: st.DataObject) -> None:
    documents = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30))
    half = data.draw(st.sets(st.sampled_from("abcdefgh")))
    planted = data.draw(st.sets(st.sampled_from(sorted(half)))) if half else set()
    size = len(documents)
    tokens = np.array(data.draw(st.lists(st.integers(1, 64), min_size=size, max_size=size)))
    run = np.array([data.draw(st.integers(0, int(count))) for count in tokens], np.int32)
    table = ChunkTable(
        document_id=np.array(documents, object),
        chunk_index=np.zeros(size, np.int32),
        tokens=tokens,
        bytes=tokens,
        with_retrieval=tokens,
        nats={"on": tokens.astype(float)},
        neighbours=np.zeros((size, 1), np.int64),
        overlap=Overlap(run, np.zeros(size, bool)),
    )
    sets = sets_of(Dose(0.5, planted, "", table), half)
    assert set(sets) == set(SETS)
    assert (np.sum([sets[name] for name in (INJECTED, REST, SECOND)], axis=0) == 1).all()
    assert (sets[FIRST] == (sets[INJECTED] | sets[REST])).all()
    assert sets[INJECTED].tolist() == [document in planted for document in documents]
    kept = within(0.125, run, tokens)
    assert (sets[FIRST_FILTERED] == (sets[FIRST] & kept)).all()
    assert (sets[SECOND_FILTERED] == (sets[SECOND] & kept)).all()


def test_nothing_planted_changes_nothing(table: ChunkTable) -> None:
    nothing = experiment(table).doses[0]
    assert nothing.median_overlap is nothing.copied is nothing.missed is None
    for name, figures in nothing.sets.items():
        if name == INJECTED:
            assert figures.chunks == 0
            assert figures.change == Difference(
                "on", nothing_planted("on"), 1.0, None, None, None, 0
            )
            assert figures.bpb["on"] is None
            continue
        assert figures.change.delta_bpb == figures.change.low == figures.change.high == 0
        assert figures.other_neighbours == 0


def test_figures_are_those_of_plain_sums(table: ChunkTable) -> None:
    for figures, share in zip(experiment(table).doses, SHARES, strict=True):
        dose = dosed(table, share)
        hit = np.isin(table.document_id, list(dose.planted))
        assert bits(figures, FIRST) == pytest.approx(bits(figures, INJECTED) + bits(figures, REST))
        expected = (hit.sum() - table.nats["on"][hit].sum()) / np.log(2)
        assert bits(figures, INJECTED) == pytest.approx(expected)
        assert figures.sets[FIRST].bpb["off"] == pytest.approx(
            table.score("off", np.isin(table.document_id, first_half(table))).bpb
        )
        for name in (REST, SECOND, FIRST_FILTERED, SECOND_FILTERED):
            assert figures.sets[name].change.delta_bpb == 0
        if share:
            assert (figures.median_overlap, figures.copied, figures.missed) == (1, 1, 0)
            assert figures.sets[INJECTED].other_neighbours == 1
            assert figures.histogram[-1] == sum(figures.histogram) == hit.sum()
            assert sum(figures.histogram_before) == hit.sum() > figures.histogram_before[-1]
            assert figures.sets[INJECTED].documents == len(dose.planted) == round(20 * share)


def test_a_filtered_set_is_kept_by_the_doses_own_overlap(table: ChunkTable) -> None:
    """With nothing planted the same chunks may pass; with less than half planted, others do."""
    doses = experiment(table).doses
    before, after = (dose.sets[FIRST_FILTERED].chunks for dose in (doses[0], doses[-1]))
    assert 0 < after < before
    assert doses[0].sets[SECOND_FILTERED].chunks == doses[-1].sets[SECOND_FILTERED].chunks


def test_a_change_of_all_text_has_an_interval_of_a_point(table: ChunkTable) -> None:
    change = experiment(table, drift=0.02 * np.log(2)).doses[-1].sets[SECOND].change
    assert (change.delta_bpb, change.low, change.high) == pytest.approx((0.02, 0.02, 0.02))
    assert change.documents == 20


def test_one_document_gives_no_interval(table: ChunkTable) -> None:
    alone = dosed(table, 0.05)
    assert len(alone.planted) == 1
    figures = figures_of([dosed(table, 0), alone], first_half(table), FEW)[-1]
    change = figures.sets[INJECTED].change
    assert change.delta_bpb is not None
    assert change.low is change.high is None


def test_an_experiment_that_works_is_called_one(table: ChunkTable) -> None:
    found = injection_verdict(experiment(table))
    assert found.dose_response is True
    assert set(found.flat.values()) == {True}
    assert found.sentences[0].startswith("Dose response: yes. RETRO[ON] on all of the first half")
    planted = [len(dose.planted) for dose in experiment(table).doses[1:]]
    whole = experiment(table).documents[0]
    said = f"{', '.join(map(str, planted))} of its {whole} documents (at 50 %:"
    assert said in found.sentences[0]
    assert "median r(C) of 1.00 at 50 %: 100 % of them are whole copies" in found.sentences[1]


def test_a_score_that_moves_everywhere_is_not_flat(table: ChunkTable) -> None:
    found = injection_verdict(experiment(table, drift=-0.01))
    assert set(found.flat.values()) == {False}
    assert any(sentence.startswith("Second half: flat, no.") for sentence in found.sentences)


def test_a_score_that_does_not_move_has_no_dose_response(table: ChunkTable) -> None:
    whole = experiment(table)
    still = whole.doses[0].sets[FIRST]
    doses = [replace(dose, sets={**dose.sets, FIRST: still}) for dose in whole.doses]
    assert injection_verdict(replace(whole, doses=doses)).dose_response is False
    first = replace(doses[1], planted=[])  # a dose that plants nothing more may stand still
    doses = [whole.doses[0], first, whole.doses[-1]]
    assert injection_verdict(replace(whole, doses=doses)).dose_response is True


def changed(whole: Injection, place: int, name: str, **change: float | None) -> Injection:
    """The experiment with another change of one set at one dose."""
    dose = whole.doses[place]
    figures = dose.sets[name]
    figures = replace(figures, change=replace(figures.change, **change))
    doses = [*whole.doses]
    doses[place] = replace(dose, sets={**dose.sets, name: figures})
    return replace(whole, doses=doses)


def test_a_smaller_dose_that_does_more_is_no_dose_response(table: ChunkTable) -> None:
    whole = experiment(table)
    assert injection_verdict(changed(whole, 1, FIRST, delta_bpb=-9.0)).dose_response is False
    assert injection_verdict(changed(whole, 2, FIRST, high=0.001)).dose_response is False


def test_too_few_documents_say_nothing(table: ChunkTable) -> None:
    whole = experiment(table)
    unsure = changed(whole, -1, FIRST, low=None, high=None)
    assert injection_verdict(unsure).dose_response is None
    unsure = changed(whole, 1, REST, delta_bpb=0.01, low=None, high=None)
    assert injection_verdict(unsure).flat[REST] is None
    moved = changed(unsure, 2, REST, delta_bpb=0.01, low=0.009, high=0.011)
    assert injection_verdict(moved).flat[REST] is False


@pytest.mark.parametrize(
    ("delta", "low", "high", "flat"),
    [
        (0.0009, 0.0005, 0.0013, True),  # too little to matter, however sure
        (0.01, -0.002, 0.02, True),  # zero lies in the interval
        (0.01, 0.002, 0.02, False),
        (-0.01, -0.02, -0.002, False),
        (0.01, None, None, None),
        (None, None, None, None),
    ],
)
def test_flat_is_small_or_uncertain(
    delta: float | None, low: float | None, high: float | None, flat: bool | None
) -> None:
    assert is_flat(Difference("on", nothing_planted("on"), 1.0, delta, low, high, 9)) is flat


def test_other_tokens_are_refused(table: ChunkTable, make_table: Make) -> None:
    other = dosed(make_table(documents=41), 0.5)
    with pytest.raises(UserError, match="scored other documents"):
        figures_of([dosed(table, 0), other], first_half(table), FEW)


def test_the_record_is_read_as_it_was_written(table: ChunkTable, tmp_path: Path) -> None:
    found = experiment(table)
    found.save(tmp_path)
    assert Injection.load(tmp_path) == found
    text = (tmp_path / INJECTION_FILE).read_text()
    without_checksums(tmp_path)
    for damaged in ("[]", text.replace("histogram", "x"), text.replace('"schema_version": 1', "")):
        (tmp_path / INJECTION_FILE).write_text(damaged)
        with pytest.raises(UserError, match=r"cannot be read as JSON|is damaged"):
            Injection.load(tmp_path)
    (tmp_path / INJECTION_FILE).unlink()
    with pytest.raises(UserError, match="does not exist"):
        Injection.load(tmp_path)


def test_the_table_is_whole_on_80_columns(table: ChunkTable) -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=80).print(injection_table(experiment(table, drift=-0.01), "title"))
    text = buffer.getvalue()
    assert "…" not in text
    assert text.count("injected documents") == 2
    assert text.count("second half, r(C)≤0.125") == 3
    assert "(-0.0144..-0.0144)" in text


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_figures_give_the_same_picture(
    table: ChunkTable, tmp_path: Path, kind: str
) -> None:
    pictures = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / f"injection.{kind}"
        plot_injection(experiment(table), path, title="a leak")
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 10_000

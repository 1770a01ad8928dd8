"""Contract of `eval=injection`: every dose is an evaluation with planted copies, scored once and
only where it can differ; the copies are seen by r(C); text that reads nothing new scores as it did.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from golden import Golden, evaluation_of
from observed import scored_conditions

from retro_lab.commands.evaluate import evaluate
from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    DatabaseConfig,
    EvaluateConfig,
    InjectionConfig,
    MemoryConfig,
    PlantedDatabaseConfig,
)
from retro_lab.evaluation.measure.injection import (
    FIRST,
    FIRST_FILTERED,
    INJECTED,
    REST,
    SECOND,
    SECOND_FILTERED,
    Injection,
)
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.injection import check_injection

DOSES = (0.1, 0.5, 1.0)  # of six documents


@pytest.fixture(scope="module")
def scored() -> list[str]:
    """Conditions that a model was run for during the experiment."""
    return []


@pytest.fixture(scope="module")
def run(
    golden: Golden,
    finished: RunDirectory,
    tmp_path_factory: pytest.TempPathFactory,
    scored: list[str],
) -> RunDirectory:
    """A copy of the golden run and its baseline, after the experiment."""
    folder = tmp_path_factory.mktemp("injection") / "runs"
    for path in (golden.folder / "runs").glob("nano-*"):
        shutil.copytree(path, folder / path.name)
    run = RunDirectory(folder / finished.path.name)
    with scored_conditions() as conditions:
        evaluate(command(golden, run))
    scored += conditions
    return run


@pytest.fixture(scope="module")
def injection(run: RunDirectory) -> Injection:
    return Injection.load(evaluation_of(run, "injection").path)


def command(golden: Golden, run: RunDirectory) -> EvaluateConfig:
    doses = f"eval.injection.doses=[{','.join(map(str, DOSES))}]"
    evaluation = golden.config("eval=injection", "debug=fast", doses).eval
    return EvaluateConfig(run=str(run.path), eval=evaluation)


def table_of(injection: Injection, place: int) -> ChunkTable:
    return ChunkTable.load(Path(injection.doses[place].folder) / "chunks.parquet")


def test_every_dose_is_there_and_its_copies_are_seen(injection: Injection) -> None:
    assert [dose.share for dose in injection.doses] == [0, *DOSES]
    assert injection.documents == [6, 6]
    assert [len(dose.planted) for dose in injection.doses] == [0, 1, 3, 6]
    for fewer, more in zip(injection.doses, injection.doses[1:], strict=False):
        assert set(fewer.planted) < set(more.planted)
    for dose in injection.doses[1:]:
        assert (dose.median_overlap, dose.copied, dose.missed) == (1, 1, 0)
    assert injection.doses[-1].sets[REST].chunks == 0


def test_the_sets_are_the_whole_split(finished: RunDirectory, injection: Injection) -> None:
    table = ChunkTable.load(finished.chunks_file)
    for dose in injection.doses:
        parts = [dose.sets[name] for name in (INJECTED, REST, SECOND)]
        assert sum(part.chunks for part in parts) == len(table)
        assert sum(part.bytes for part in parts) == table.bytes.sum()
        assert sum(part.documents for part in parts) == 12


def test_nothing_planted_is_the_commands_evaluation_and_the_runs_own_is_left_alone(
    run: RunDirectory, finished: RunDirectory, injection: Injection
) -> None:
    assert injection.doses[0].folder == str(evaluation_of(run, "injection").path)
    assert run.results_file.read_bytes() == finished.results_file.read_bytes()
    deltas = [part.change.delta_bpb for part in injection.doses[0].sets.values() if part.chunks]
    assert set(deltas) == {0.0}


def test_what_reads_nothing_new_scores_as_it_did(injection: Injection) -> None:
    nothing = table_of(injection, 0)
    unmoved = 0
    for place, dose in enumerate(injection.doses[1:], start=1):
        table = table_of(injection, place)
        for document in set(table.document_id) - set(dose.planted):
            rows = table.document_id == document
            if np.array_equal(table.neighbours[rows], nothing.neighbours[rows]):
                unmoved += 1
                before, after = nothing.nats["on"][rows], table.nats["on"][rows]
                assert after == pytest.approx(before, rel=1e-6)
        assert dose.sets[INJECTED].other_neighbours == pytest.approx(1, abs=0.2)
        assert dose.sets[INJECTED].change.delta_bpb != 0
    assert unmoved > 0


def test_the_more_is_planted_the_better_the_half_and_nothing_else(injection: Injection) -> None:
    """The pointer begins as a copier, so a few steps are enough to see a leak in the score."""
    first = [dose.sets[FIRST].change.delta_bpb for dose in injection.doses]
    assert all(more < less - 0.1 for less, more in pairwise(first))
    for dose in injection.doses[1:]:
        assert dose.sets[INJECTED].change.delta_bpb < -1
        for name in (REST, SECOND, FIRST_FILTERED, SECOND_FILTERED):
            if dose.sets[name].chunks:
                assert abs(dose.sets[name].change.delta_bpb) < 0.01


def test_a_model_runs_only_for_what_a_dose_can_change(
    golden: Golden, run: RunDirectory, scored: list[str]
) -> None:
    assert scored == ["on"] * len(DOSES)
    record = evaluation_of(run, "injection").path / "injection.json"
    before = record.read_bytes()
    with scored_conditions() as again:
        evaluate(command(golden, run))
    assert again == []
    assert record.read_bytes() == before


def test_other_intervals_need_no_model(golden: Golden, run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path.parent, tmp_path / "runs")
    copy = RunDirectory(tmp_path / "runs" / run.path.name)
    asked = command(golden, copy)
    with scored_conditions() as again:
        evaluate(replace(asked, eval=replace(asked.eval, bootstrap_samples=60)))
    assert again == []
    out = evaluation_of(copy, "injection")
    assert Injection.load(out.path).bootstrap.samples == 60
    half = evaluation_of(copy.for_database(PlantedDatabaseConfig(plant_share=0.5)), "injection")
    assert half.evaluation is not None
    copy.begin(copy.config(), anew=True)  # trained again, it has other weights
    assert copy.evaluation is half.evaluation is out.evaluation is None
    assert not (out.path / "injection.json").exists()


def refuse(*_: object) -> None:
    raise AssertionError("a model was run")


def test_what_was_measured_of_a_dose_before_is_kept(
    golden: Golden, run: RunDirectory, tmp_path: Path
) -> None:
    """Also with a probe that the experiment doesn't need; and scoring OFF anew gives the same."""
    shutil.copytree(run.path.parent, tmp_path / "runs")
    copy = RunDirectory(tmp_path / "runs" / run.path.name)
    database = PlantedDatabaseConfig(plant_share=0.5)
    out = copy.for_database(database)
    shutil.rmtree(out.path)
    own = replace(copy.config().eval, split="test", bootstrap_samples=50)
    held = [each.chunks_file for each in (copy, evaluation_of(copy, "injection"))]
    for file in held:
        file.rename(file.with_suffix(".away"))
    evaluate(EvaluateConfig(run=str(copy.path), eval=own, database=database))
    for file in held:
        file.with_suffix(".away").rename(file)
    table = ChunkTable.load(out.chunks_file)
    assert np.array_equal(table.nats["off"], ChunkTable.load(copy.chunks_file).nats["off"])
    with scored_conditions() as again:
        evaluate(command(golden, copy))
    assert again == [], "the dose was scored by the other evaluation"
    assert "random" in ChunkTable.load(out.chunks_file).nats
    found = [Injection.load(evaluation_of(each, "injection").path) for each in (copy, run)]
    assert found[0].doses[2].sets == found[1].doses[2].sets


def test_the_report_lies_beside_the_results(
    run: RunDirectory, golden: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    out = evaluation_of(run, "injection").path
    for name in ("injection.json", "injection.png", "injection.svg", "results.json"):
        assert (out / name).is_file()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "injection.png" in page
    assert "injection.json" in page
    evaluate(command(golden, run))
    said = capsys.readouterr().out
    assert "copies of a share of 6 documents planted; 6 others never are" in said
    assert "Dose response: " in said


def test_a_memory_reads_the_planted_copies_too(
    golden: Golden, run: RunDirectory, tmp_path: Path
) -> None:
    shutil.copytree(run.path.parent, tmp_path / "runs")
    copy = RunDirectory(tmp_path / "runs" / run.path.name)
    asked = command(golden, copy)
    every = replace(asked.eval, injection=InjectionConfig([1.0]), random=False)
    memory = MemoryConfig(name="suffix", experts=["suffix"], gate_tokens=2_000)
    evaluate(replace(asked, eval=every, memory=memory))
    found = Injection.load(evaluation_of(copy, "injection-memory_suffix").path)
    assert found.memory is not None
    nothing, planted = found.memory
    assert set(nothing.sets[FIRST].bpb) >= {"on", "memory"}
    assert (planted.copied, planted.missed) == (1, 0)
    injected = planted.sets[INJECTED].bpb
    assert injected["memory"] < 0.5 * (nothing.sets[FIRST].bpb["memory"] or 0.0)  # type: ignore[operator]
    for name in (FIRST_FILTERED, SECOND_FILTERED, SECOND):
        assert abs(planted.sets[name].change.delta_bpb or 0.0) < 0.05
    on = found.doses[-1].sets[INJECTED]
    assert on.bpb["on"] == pytest.approx(
        Injection.load(evaluation_of(run, "injection").path).doses[-1].sets[INJECTED].bpb["on"]
    )
    with scored_conditions() as again:
        evaluate(replace(asked, eval=every, memory=memory))
    assert again == []


def test_a_memory_that_cannot_search_copies_is_left_out(
    golden: Golden, run: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    knn = replace(command(golden, run), memory=MemoryConfig(name="full", experts=["knn", "suffix"]))
    check_injection(run, knn)
    assert "without memory=full: knn searches the training split alone" in caplog.text


def test_what_cannot_be_leaked_into_is_refused(golden: Golden, run: RunDirectory) -> None:
    asked = command(golden, run)
    with pytest.raises(UserError, match="is a baseline"):
        evaluate(replace(asked, run=str(golden.baseline().path)))
    with pytest.raises(UserError, match="plants in the training split itself"):
        evaluate(replace(asked, database=DatabaseConfig(fraction=0.5)))
    too_much = replace(asked.eval, injection=InjectionConfig([3.0]))
    with pytest.raises(UserError, match=r"eval.injection.doses=\[3.0\]"):
        evaluate(replace(asked, eval=too_much))

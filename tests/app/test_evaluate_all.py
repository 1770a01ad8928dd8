"""Contract of `eval=all`: it has every part, each adds up to the others, scores that are stored are
not scored again and are what scoring gives, and what a later evaluation lacks is not shown as its.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from golden import PLANTED, Golden, evaluation_of
from observed import scored_conditions

from retro_lab.commands import audit
from retro_lab.commands.evaluate import evaluate
from retro_lab.config.schema import EvalConfig, EvaluateConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.gain_file import load_gain
from retro_lab.evaluation.records.results import Results, warnings
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.rivals import memory_decoder
from retro_lab.rivals.rival_session import RivalSession
from retro_lab.rivals.table import load as load_rivals
from retro_lab.run.compared import compared_runs
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.timing import Stopwatch


@pytest.fixture(scope="module")
def evaluated(
    golden: Golden, finished: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """A copy of the golden run and its baseline, evaluated with `eval=all`."""
    folder = tmp_path_factory.mktemp("all") / "runs"
    shutil.copytree(golden.folder / "runs", folder)
    run = RunDirectory(folder / finished.path.name)
    evaluate(EvaluateConfig(run=str(run.path), eval=all_parts(golden)))
    return run


@pytest.fixture(scope="module")
def everything(evaluated: RunDirectory) -> RunDirectory:
    """That evaluation's directory."""
    return evaluation_of(evaluated, "all")


def all_parts(golden: Golden) -> EvalConfig:
    few = (
        "eval.rivals.which=[equal_parameters,ngram_table,memory_decoder,xz]",
        "eval.rivals.matched.lr_factors=[1.0]",
        *("eval.rivals.tuning_tokens=100", "eval.rivals.memory_decoder.tokens=500"),
        *("eval.rivals.knn_lm.neighbours=[4]", "eval.rivals.memory_decoder.rate_factors=[0.5]"),
    )  # all of them would be a dozen trainings
    return golden.config("eval=all", "eval.ngram=3", "eval.pages=1", "debug=fast", *few).eval


@pytest.fixture
def copy(evaluated: RunDirectory, tmp_path: Path) -> RunDirectory:
    shutil.copytree(evaluated.path.parent, tmp_path / "runs")
    return RunDirectory(tmp_path / "runs" / evaluated.path.name)


def test_all_has_every_condition_file_and_column(everything: RunDirectory) -> None:
    table = ChunkTable.load(everything.chunks_file)
    shown = "baseline plain off random shuffled filtered on_without_pointer on oracle"
    assert list(table.nats) == shown.split()
    names = ("tokens.parquet", "inspect.html", "index.html", "leakage.png", "gain.png", "gain.json")
    assert all((everything.path / name).is_file() for name in names)
    assert Results.load(everything.results_file).evaluation.words is not None
    assert table.similarity is not None
    assert table.reading is not None
    reads = table.neighbours >= 0
    assert np.isfinite(table.reading.scores[reads]).all()
    planted = np.isin(table.document_id, PLANTED) & reads.any(axis=1)
    assert table.reading.runs.max(axis=1)[planted].mean() > 0.8 * table.tokens[planted].mean()
    assert table.nats["oracle"].sum() < table.nats["shuffled"].sum()


def test_rivals_that_are_trained_score_distributions(everything: RunDirectory) -> None:
    rows = {row["name"]: row for row in load_rivals(everything.path)["rivals"]}
    trained = ["equal_parameters", "ngram_table", "memory_decoder"]
    controls = ["memory_decoder_text", "memory_decoder_shuffled"]
    assert list(rows) == ["on", "plain", "baseline", *trained, *controls, "xz"]
    assert all(rows[name]["facts"]["distribution"]["passed"] for name in [*trained, *controls])
    match = rows["ngram_table"]["facts"]["match"]
    assert abs(rows["ngram_table"]["parameters"] - rows["on"]["parameters"]) <= match["unit"] / 2
    assert rows["memory_decoder_text"]["facts"]["tokens_imitated"] == 0
    assert rows["memory_decoder"]["facts"]["tokens_imitated"] > 0
    assert rows["plain"]["figures"]["all"]["against_plain"] is None
    assert rows["xz"]["figures"]["all"]["against_plain"] is not None


def test_the_baseline_is_scored_once_for_the_decoder_and_its_controls(
    golden: Golden, copy: RunDirectory
) -> None:
    rivals = all_parts(golden).rivals
    rivals = replace(rivals, memory_decoder=replace(rivals.memory_decoder, weights=[0.125]))
    config = replace(copy.config(), eval=replace(all_parts(golden), rivals=rivals))
    session = RivalSession(config, DataGraph(config), compared_runs(config), Stopwatch())
    own, read = session.retro_baseline.embedding, []

    def note(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if module is own:  # decoders are copies, with this hook
            read.append(given[0].tolist())

    own.register_forward_pre_hook(note)
    entries = memory_decoder.entries(session)
    assert [entry.outcome.tuning.chosen["weight"] for entry in entries] == [0.125] * 3
    for text in (session.text.tuning, session.text.test):
        data, windows = text.windows()
        first = data.__getitems__(windows[: session.batch].tolist())["input_ids"]
        assert read.count(first.tolist()) == 1


def test_tokens_add_up_to_chunks_in_every_condition(everything: RunDirectory) -> None:
    chunks, tokens = (
        ChunkTable.load(everything.chunks_file),
        TokenTable.load(everything.tokens_file),
    )
    assert (np.bincount(tokens.chunk_row) == chunks.tokens).all()
    assert (np.bincount(tokens.chunk_row, tokens.bytes) == chunks.bytes).all()
    assert (np.bincount(tokens.chunk_row, tokens.with_retrieval) == chunks.with_retrieval).all()
    for name, nats in chunks.nats.items():
        assert np.bincount(tokens.chunk_row, tokens.nats[name]) == pytest.approx(nats)
    assert tokens.longest_match is not None
    longest = np.zeros(len(chunks), int)
    to_end = chunks.tokens[tokens.chunk_row] + (chunks.chunk_index[tokens.chunk_row] == 0)
    np.maximum.at(
        longest, tokens.chunk_row, np.minimum(tokens.longest_match, to_end - tokens.place)
    )
    assert chunks.overlap is not None
    assert (longest == chunks.overlap.longest_run).all()


def test_an_audit_of_a_run_finds_its_figures_and_its_copies(
    evaluated: RunDirectory, everything: RunDirectory, tmp_path: Path
) -> None:
    """Scores alone prove nothing about the model; the planted copies are leaks."""
    assert audit.main([f"run={evaluated.path}", f"out={tmp_path}"]) == 1
    record = orjson.loads((tmp_path / "audit.json").read_bytes())
    score = Results.load(everything.results_file).metrics["test"]["on"]
    assert (record["bytes"], record["tokens"]) == (score.bytes, score.tokens)
    assert record["bpb"] == pytest.approx(score.bpb)
    outcomes = {check["name"]: check["passed"] for check in record["checks"]}
    assert outcomes["bytes"] is True
    assert outcomes["overlap"] is False
    assert outcomes["one_pass"] is None
    assert set(PLANTED) <= {document["id"] for document in record["leaked"]}


def test_stored_scores_are_read_and_are_what_scoring_gives(
    golden: Golden, copy: RunDirectory
) -> None:
    command = EvaluateConfig(run=str(copy.path), eval=all_parts(golden))
    out = evaluation_of(copy, "all")

    def files() -> dict[str, bytes]:
        # index.html also lists the other evaluations
        names = ("chunks.parquet", "tokens.parquet", "results.json", "inspect.html")
        return {name: (out.path / name).read_bytes() for name in names}

    scored = files()
    with scored_conditions() as conditions:
        evaluate(command)
        read = files()  # results.json names the folder of the runs, which was copied
        assert {k: v for k, v in read.items() if k != "results.json"} == {
            k: v for k, v in scored.items() if k != "results.json"
        }
        exact = golden.config("eval=exact", "debug=fast").eval
        evaluate(replace(command, eval=exact))
        assert files() == read, "another kind lies elsewhere"
        evaluate(replace(command, eval=replace(exact, name="all")))
        # What a smaller evaluation didn't ask for is still there when it is wanted again.
        assert {"shuffled", "oracle"} <= ChunkTable.load(out.chunks_file).nats.keys()
        evaluate(command)
        again = files()
        assert {k: v for k, v in again.items() if k != "results.json"} == {
            k: v for k, v in scored.items() if k != "results.json"
        }
    assert conditions == []
    for record in copy.path.parent.rglob("evaluation.json"):
        RunDirectory(record.parent).forget_evaluation()
    evaluate(command)
    assert files() == read


def test_what_an_evaluation_does_not_make_is_not_shown_as_its_own(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = golden.config("eval=ppl", "eval.stride=16", "debug=fast").eval
    evaluation = replace(evaluation, name="all")
    evaluate(EvaluateConfig(run=str(copy.path), eval=evaluation))
    out = evaluation_of(copy, "all")
    for name in ("leakage.png", "inspect.html", "tokens.parquet"):
        assert not (out.path / name).exists(), name
    assert Results.load(out.results_file).evaluation.stride == 16
    found = load_gain(out.path / "gain.json")
    assert found.total.chunks == len(ChunkTable.load(out.chunks_file))
    said, page = capsys.readouterr().out, (out.path / "index.html").read_text()
    assert "leakage.png" not in page
    for name in ("rivals.json", "injection.json"):
        assert (out.path / name).is_file()
        assert f"{name} is of an evaluation with another split" in said
    assert "rivals on" not in said
    assert "documents planted" not in said
    assert page.count("data:image/png") == 1, "gain.png alone"
    baseline = copy.path.parent / golden.baseline().path.name
    older = evaluation_of(RunDirectory(baseline), "all").path / "gain.png"
    older.parent.mkdir(parents=True)
    older.write_bytes(b"of another time")
    evaluate(EvaluateConfig(run=str(baseline), eval=evaluation))
    assert not older.exists()


def test_text_totals_and_choice_are_of_one_difference(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A RETRO[OFF] that got worse, as in a run whose backbone was trained too, changes none."""
    before, out = evaluation_of(copy, "all"), evaluation_of(copy, "inspect")
    page, gained = (before.path / "inspect.html").read_text(), before.path / "gain.json"
    assert "that plain needs for it, less those of RETRO[ON]" in page
    for part in load_gain(gained).by_document[:1] + load_gain(gained).by_document[-1:]:
        assert f"<td>{part.gain:+,.1f}</td>" in page
    chunks, tokens = ChunkTable.load(before.chunks_file), TokenTable.load(before.tokens_file)
    off = tokens.nats["off"] + 1
    replace(tokens, nats={**tokens.nats, "off": off}).save(before.tokens_file, chunks)
    off = chunks.nats["off"] + chunks.tokens
    replace(chunks, nats={**chunks.nats, "off": off}).save(before.chunks_file)
    inspect = golden.config("eval=inspect", "eval.pages=1", "debug=fast").eval
    evaluate(EvaluateConfig(run=str(copy.path), eval=inspect))
    assert (ChunkTable.load(out.chunks_file).nats["off"] == off).all(), "it was read"
    assert (out.path / "inspect.html").read_text() == page
    said = " ".join(capsys.readouterr().out.split())
    assert "gain of RETRO[ON] over plain, by overlap with any training text (exact)" in said
    for other in (golden.baseline(), golden.plain()):
        shutil.rmtree(copy.path.parent / other.path.name)
    evaluate(EvaluateConfig(run=str(copy.path), eval=inspect))
    assert (
        "that backbone needs for it, less those of RETRO[ON]"
        in (out.path / "inspect.html").read_text()
    )


def test_duplicated_documents_are_counted_and_named(everything: RunDirectory) -> None:
    results = Results.load(everything.results_file)
    assert results.data.duplicates == len(PLANTED)
    assert any("2 of 12 scored documents" in sentence for sentence in warnings(results))
    assert "2 of 12 scored documents" in (everything.path / "index.html").read_text()

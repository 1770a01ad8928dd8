"""Contract of evaluations after training: `eval=all` has every part, scores that are stored are not
scored again and are what scoring gives, several runs are compared, and bad input is one message."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import orjson
import pytest
import torch
from golden import PLANTED, Golden, evaluation_of
from observed import scored_conditions

from retro_lab.commands import audit
from retro_lab.commands.evaluate import evaluate, main, with_lists
from retro_lab.config.errors import UserError
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
from retro_lab.run.evaluating import evaluate as evaluation_module
from retro_lab.run.evaluating.reevaluate import evaluate_one
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


def refuse(*_: object) -> None:
    raise AssertionError("a model was run")


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
    baseline = compared_runs(config)["baseline"]
    session = RivalSession(config, DataGraph(config), baseline, Stopwatch())
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
    golden: Golden, copy: RunDirectory, monkeypatch: pytest.MonkeyPatch
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


@pytest.mark.parametrize("change", [{"split": "validation"}, {"stride": 16}, {"seed": 5}])
def test_other_settings_are_scored_anew(golden: Golden, copy: RunDirectory, change: dict) -> None:
    with scored_conditions() as scored:
        evaluate(EvaluateConfig(run=str(copy.path), eval=replace(golden.config().eval, **change)))
    expected = {"random"} if "seed" in change else {"on", "off", "random", "baseline", "plain"}
    assert set(scored) == expected


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


def test_other_hardware_is_no_other_evaluation(
    golden: Golden, copy: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    # The golden run was trained in 32 bits; by the trainer's precision no baseline would be found.
    trainer = golden.config("trainer.threads=3", "trainer.precision=bf16-mixed").trainer
    evaluation = replace(golden.config().eval, stride=16)
    evaluate(EvaluateConfig(run=str(copy.path), eval=evaluation, trainer=trainer))
    assert set(threads) == {3}
    assert "baseline" in ChunkTable.load(copy.chunks_file).nats
    with scored_conditions() as scored:
        evaluate(EvaluateConfig(run=str(copy.path), eval=evaluation))
    assert scored == []


def test_a_retrained_run_is_scored_anew(copy: RunDirectory, golden: Golden) -> None:
    copy.begin(golden.config(), anew=True)
    assert copy.evaluation is None


def test_duplicated_documents_are_counted_and_named(everything: RunDirectory) -> None:
    results = Results.load(everything.results_file)
    assert results.data.duplicates == len(PLANTED)
    assert any("2 of 12 scored documents" in sentence for sentence in warnings(results))
    assert "2 of 12 scored documents" in (everything.path / "index.html").read_text()


def test_several_runs_are_compared_on_the_same_chunks(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = copy.path.parent / golden.baseline().path.name
    evaluate(EvaluateConfig(run=[str(baseline), str(copy.path)], eval=golden.config().eval))
    assert "2 runs on the same chunks" in capsys.readouterr().out
    lines = (copy.path.parent / "comparison.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2
    table = ChunkTable.load(copy.chunks_file)
    delta = table.score("on").bpb - table.score("baseline").bpb
    assert float(lines[2].split(",")[7]) == pytest.approx(delta)


def test_runs_whose_directories_have_one_name_are_told_apart(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """As two runs' results with one other database have."""
    other = copy.path.parent.with_name("other") / copy.path.name
    shutil.copytree(copy.path.parent, other.parent)
    evaluate(EvaluateConfig(run=[str(copy.path), str(other)], eval=golden.config().eval))
    assert "2 runs on the same chunks" in capsys.readouterr().out
    lines = (copy.path.parent / "comparison.csv").read_text().splitlines()
    named = [line.split(",")[0] for line in lines[1:]]
    assert named == [f"runs/{copy.path.name}", f"other/{copy.path.name}"] * 2
    assert float(lines[2].split(",")[7]) == 0, "they are copies"


def test_a_run_that_is_given_twice_is_refused(copy: RunDirectory) -> None:
    again = copy.path.parent / "." / ".." / copy.path.parent.name / copy.path.name
    with pytest.raises(UserError, match="each of them once"):
        evaluate(EvaluateConfig(run=[str(copy.path), str(again)]))


def test_several_runs_are_spelled_with_commas() -> None:
    assert with_lists(["run=a,b", "eval=ppl"]) == ["run=[a,b]", "eval=ppl"]
    assert with_lists(["run=a"]) == ["run=a"]
    assert with_lists(["-m", "run=a,b"]) == ["-m", "run=a,b"]


def test_a_run_without_a_checkpoint_is_one_message(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy.path / "checkpoints")
    assert main([f"run={copy.path}", "eval.split=validation"]) == 2
    assert "has no checkpoint" in capsys.readouterr().err


def test_a_run_is_locked_while_it_is_evaluated(copy: RunDirectory) -> None:
    """Of two at once, one's results.json would lie beside the other's chunks.parquet."""
    tried = []

    def measured(*_: object) -> None:
        with pytest.raises(UserError, match="another process is working on"):
            copy.acquire(wait=False)
        tried.append(True)

    settings = replace(copy.config().eval, bootstrap_samples=51)
    evaluate_one(copy, EvaluateConfig(run=str(copy.path), eval=settings), measured)
    assert tried
    copy.acquire(wait=False).release()


def test_a_run_is_found_from_within_it_and_its_baseline_too(
    copy: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(copy.path)
    settings = replace(copy.config().eval, bootstrap_samples=51)
    evaluate(EvaluateConfig(run=".", eval=settings))
    assert "is missing" not in caplog.text
    assert "baseline" in Results.load(copy.results_file).metrics["test"]


def test_a_run_that_is_not_trained_is_refused(golden: Golden, copy: RunDirectory) -> None:
    copy.enter("training")
    with pytest.raises(UserError, match="not trained to its end"):
        evaluate(EvaluateConfig(run=str(copy.path)))


@pytest.mark.parametrize("what", ["tokenizer", "database"])
def test_other_data_than_in_training_is_not_read(
    golden: Golden, copy: RunDirectory, tmp_path: Path, what: str
) -> None:
    text = copy.config_file.read_text()
    if what == "tokenizer":
        changed = text.replace("vocab_size: 400", "vocab_size: 390")
    else:
        corpus = tmp_path / "corpus.jsonl"
        lines = (golden.corpus / "corpus.jsonl").read_text().splitlines(keepends=True)
        corpus.write_text("".join(lines[1:]).replace("train-01", "train-00"))
        (tmp_path / "train.txt").write_text(
            (golden.corpus / "train.txt").read_text().replace("train-01\n", "")
        )
        changed = text.replace(str(golden.corpus / "corpus.jsonl"), str(corpus))
        changed = changed.replace(str(golden.corpus / "train.txt"), str(tmp_path / "train.txt"))
    assert changed != text
    copy.config_file.write_text(changed)
    before = Results.load(copy.results_file).metrics["test"]["on"]
    evaluate(EvaluateConfig(run=str(copy.path), eval=replace(golden.config().eval, seed=3)))
    assert Results.load(copy.results_file).metrics["test"]["on"] == before


def test_a_baseline_of_other_text_is_no_baseline(golden: Golden, copy: RunDirectory) -> None:
    """Its own tokenizer would make its scores, and all that is compared with them, nonsense."""
    baseline = RunDirectory(copy.path.parent / golden.baseline().path.name)
    baseline.record_lineage(baseline.lineage | {"tokenizer": "of other text"})
    evaluation = replace(golden.config().eval, stride=16)
    with pytest.raises(UserError, match=rf"{baseline.path.name} changed .*: tokenizer"):
        evaluate(EvaluateConfig(run=str(copy.path), eval=evaluation))


def test_a_checkpoint_of_another_vocabulary_is_refused(golden: Golden, copy: RunDirectory) -> None:
    copy.config_file.write_text(
        copy.config_file.read_text().replace("vocab_size: 400", "vocab_size: 390")
    )
    (copy.path / "lineage.json").unlink()
    with pytest.raises(UserError, match="does not fit its configuration and its tokenizer"):
        evaluate(EvaluateConfig(run=str(copy.path), eval=replace(EvalConfig(), seed=3)))


def test_perplexity_a_word_is_that_of_the_sums(
    golden: Golden, copy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = golden.config("eval=ppl", "debug=fast").eval
    evaluate(EvaluateConfig(run=str(copy.path), eval=evaluation))
    words = 12 * 150  # test documents, and what each was made of
    out = evaluation_of(copy, "ppl")
    results = Results.load(out.results_file)
    assert results.evaluation.words == words
    record = orjson.loads(out.results_file.read_bytes())["metrics"]["test"]
    for condition, score in results.metrics["test"].items():
        expected = math.exp(score.nats / words)
        assert record[condition]["word_ppl"] == pytest.approx(expected)
        assert f"{expected:.6g}" in (out.path / "index.html").read_text()
    assert "word ppl" in capsys.readouterr().out
    evaluate(EvaluateConfig(run=str(copy.path), eval=replace(evaluation, words=False)))
    assert Results.load(out.results_file).evaluation.words is None


def test_a_lines_end_is_a_word_as_in_wikitext() -> None:
    texts = [" \n = Title = \n", "one two\nthree", ""]
    graph, config = Mock(), Mock()
    graph.own.corpus.data.documents_of.return_value = [0, 1, 2]
    graph.own.corpus.data.text.side_effect = texts.__getitem__
    assert evaluation_module._words(config, graph) == 3 + 2 + 3 + 1


def test_an_empty_set_at_a_low_alpha_is_said_not_shown_as_a_number(
    golden: Golden, copy: RunDirectory
) -> None:
    evaluation = replace(golden.config().eval, alphas=[1e-6, 1.0])
    evaluate(EvaluateConfig(run=str(copy.path), eval=evaluation))
    leakage = Results.load(copy.results_file).leakage
    assert leakage.curves["on"][0].bpb is None
    assert any("no figure at this alpha" in note for note in leakage.notes)
    assert "no figure at this alpha" in (copy.path / "index.html").read_text()

"""Contract of evaluations after training: only other settings are scored anew, several runs are
compared, data and weights of another kind are not read, and bad input is one message.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import orjson
import pytest
import torch
from golden import Golden, evaluation_of
from observed import scored_conditions

from retro_lab.commands.evaluate import evaluate, main, with_lists
from retro_lab.config.errors import UserError
from retro_lab.config.schema import EvalConfig, EvaluateConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating import evaluate as evaluation_module
from retro_lab.run.evaluating.reevaluate import evaluate_one


@pytest.mark.parametrize("change", [{"split": "validation"}, {"stride": 16}, {"seed": 5}])
def test_other_settings_are_scored_anew(golden: Golden, copy: RunDirectory, change: dict) -> None:
    with scored_conditions() as scored:
        evaluate(EvaluateConfig(run=str(copy.path), eval=replace(golden.config().eval, **change)))
    expected = {"random"} if "seed" in change else {"on", "off", "random", "baseline", "plain"}
    assert set(scored) == expected


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

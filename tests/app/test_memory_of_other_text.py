"""Contract: text outside the corpus is scored and written with a run's memory as the run's own test
documents are: by `eval=harness`, `eval=qa` and `Run.score`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from golden import Golden, results_of

from retro_lab.commands.evaluate import main
from retro_lab.config.schema import EvaluateConfig, MemoryConfig
from retro_lab.evaluation.measure.text_scoring import ScoredText
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.run.compared import compared_runs
from retro_lab.run.directory import RunDirectory
from retro_lab.run.finished import FinishedRun
from retro_lab.run.tasks.conditions import Conditions

MEMORY = MemoryConfig(name="suffix_topic", experts=["suffix", "topic"], gate_tokens=2_000)


def conditions_of(run: RunDirectory, memory: MemoryConfig = MEMORY) -> Conditions:
    config = replace(run.config(), runs_dir=str(run.path.parent), memory=memory)
    return Conditions(FinishedRun(run, config), compared_runs(config))


@pytest.fixture(scope="module")
def conditions(run: RunDirectory) -> Conditions:
    return conditions_of(run)


@pytest.fixture(scope="module")
def texts(golden: Golden, conditions: Conditions) -> dict[str, list[int]]:
    """Tokens of each document of the corpus, the boundary token first."""
    lines = (golden.corpus / "corpus.jsonl").read_bytes().splitlines()
    records = [orjson.loads(line) for line in lines]
    encoded = conditions.run.tokenizer.encode_batch([record["text"] for record in records])
    boundary = conditions.run.tokenizer.boundary_id
    return {
        record["id"]: [boundary, *ids.ids.tolist()]
        for record, ids in zip(records, encoded, strict=True)
    }


def test_documents_score_as_in_the_runs_own_evaluation(
    copy: RunDirectory, conditions: Conditions, texts: dict[str, list[int]]
) -> None:
    asked = replace(copy.config().eval, bootstrap_samples=50, random=False)
    command = EvaluateConfig(run=str(copy.path), eval=asked, memory=MEMORY)
    table = ChunkTable.load(results_of(command).chunks_file)
    names = list(dict.fromkeys(table.document_id.tolist()))
    scores = conditions.scorer("memory").score([ScoredText(texts[name]) for name in names])
    nats = [table.nats["memory"][table.document_id == name].sum() for name in names]
    assert [score.nats for score in scores] == pytest.approx(nats, rel=1e-5)
    without = [table.nats["on"][table.document_id == name].sum() for name in names]
    assert np.mean(nats) < 0.98 * np.mean(without)


def test_what_comes_later_is_not_read(conditions: Conditions, texts: dict[str, list[int]]) -> None:
    tokens, scorer = texts["test-01"], conditions.scorer("memory")
    for place in (1, 17, len(tokens) - 1):
        before, after, whole = scorer.score(
            [ScoredText(tokens[:place]), ScoredText(tokens, place), ScoredText(tokens)]
        )
        assert before.nats + after.nats == pytest.approx(whole.nats, rel=1e-5)


def test_the_likeliest_tokens_are_those_that_it_writes(
    conditions: Conditions, texts: dict[str, list[int]]
) -> None:
    prompt, new = texts["train-03"][:40], 8
    writer, scorer = conditions.writer("memory"), conditions.scorer("memory")
    steps = writer._steps([prompt], new, writer.search, left_pad=False, going={0})
    written = [step[0] for step in steps]
    assert [*prompt, *written] == texts["train-03"][: 40 + len(written)]  # it is in the database
    texts_ = [ScoredText([*prompt, *written], 40), ScoredText([*prompt, *written[:-1], 5], 40)]
    assert [each.greedy for each in scorer.score(texts_, greedy=True)] == [True, False]


def test_questions_are_answered_with_it(copy: RunDirectory, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "abcd", "answer": "bcde"}')
    asked = [f"run={copy.path}", "eval=qa", f"eval.questions={file}", "memory=suffix"]
    assert main([*asked, "memory.gate_tokens=2000"]) == 0
    record = orjson.loads((copy.path / "qa.json").read_bytes())
    assert record["memory"] == "suffix"
    assert record["conditions"][-2:] == ["on", "memory"]
    assert set(record["answers"]["memory"]) == {"exact_match", "f1"}


def test_states_of_the_corpus_are_left_out_with_a_word(
    run: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    full = MemoryConfig(name="full", experts=["suffix", "topic", "knn"])
    assert "memory" not in conditions_of(run, full).names
    assert "memory=full: other text is read without it" in caplog.text
    assert "memory" not in conditions_of(run, MemoryConfig()).names

"""Contract: questions find the passages that answer them, an answer reads what its own question
found, and a file's own passages are what is searched.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from golden import Golden

from retro_lab.commands.evaluate import main
from retro_lab.commands.train import train
from retro_lab.config.schema import QaConfig
from retro_lab.evaluation.tasks.qa import Question
from retro_lab.nn import Query
from retro_lab.run.directory import RunDirectory
from retro_lab.run.finished import FinishedRun
from retro_lab.run.tasks import questions as qa
from retro_lab.run.tasks.conditions import Conditions


@pytest.fixture(scope="module")
def words(golden: Golden) -> dict[str, list[str]]:
    lines = (golden.corpus / "corpus.jsonl").read_bytes().splitlines()
    return {record["id"]: record["text"].split() for record in map(orjson.loads, lines)}


def ask(run: RunDirectory, questions: Path, *more: str) -> dict:
    arguments = [f"run={run.path}", "eval=qa", f"eval.questions={questions}", *more]
    assert main(arguments) == 0
    return orjson.loads((run.path / "qa.json").read_bytes())


def test_questions_from_the_database_are_answered_from_it(
    run: RunDirectory,
    words: dict[str, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each question is four words of a training document, its answer the three that follow."""
    texts = [words[f"train-{number:02}"] for number in range(12)]
    asked = [{"question": " ".join(t[40:44]), "answer": [" ".join(t[44:47])]} for t in texts]
    file = tmp_path / "questions.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, asked)))
    record = ask(run, file, "eval.passages=5")
    assert record["conditions"] == ["baseline", "plain", "off", "random", "on"]
    assert record["recall"]["on"]["5"] >= 0.75
    assert record["recall"]["random"]["5"] <= 0.25
    assert set(record["answers"]) == {"baseline", "plain", "off", "random", "on"}
    given = [question["given"] for question in record["questions"]]
    assert all(one["off"] == one["baseline"] for one in given)  # the golden run is a retrofit
    assert any(one["on"] != one["off"] for one in given)
    assert len(record["questions"]) == 12
    out = capsys.readouterr().out
    assert "12 questions, answers" in out
    assert "a passage holds a right answer" in out
    assert ask(run, file, "eval.limit=2")["settings"]["limit"] == 2


def test_the_passages_of_a_file_are_searched(
    run: RunDirectory, words: dict[str, list[str]], tmp_path: Path
) -> None:
    """They are not in the run's own database, whose text says nothing about them."""
    names = ["ananas", "banana", "citron", "dattel"]
    paragraphs = [
        {
            "context": f"{' '.join(words['test-00'][:6])} {name} is number {number}",
            "qas": [
                {
                    "id": name,
                    "question": f"which number is {name}",
                    "answers": [{"text": f"number {number}"}],
                }
            ],
        }
        for number, name in enumerate(names)
    ]
    file = tmp_path / "squad.json"
    file.write_text(json.dumps({"data": [{"title": "fruit", "paragraphs": paragraphs}]}, indent=1))
    record = ask(run, file, "eval.passages=2", "eval.in_prompt=0", "eval.k=1")
    assert record["recall"]["on"]["2"] == 1.0
    assert record["recall"]["on"]["1"] >= 0.75
    assert record["recall"]["random"]["1"] <= 0.25
    [corpus] = (run.path / "questions").iterdir()
    assert [orjson.loads(line)["id"] for line in corpus.read_bytes().splitlines()] == [
        f"fruit {number}" for number in range(1, 5)
    ]


def test_an_answer_reads_what_its_own_question_found(
    run: RunDirectory, words: dict[str, list[str]]
) -> None:
    """In a batch of prompts of unequal length, written in another order, with left padding."""
    conditions = Conditions(FinishedRun.open(run), {})
    boundary = conditions.run.tokenizer.boundary_id
    encoded = conditions.run.tokenizer.encode_batch([" ".join(words["train-05"])])[0].ids.tolist()
    prompts = [[boundary, *encoded[:length]] for length in (30, 3, 17)]
    source = conditions.source("on")
    assert source is not None
    found = source.search([encoded[20 * i : 20 * i + 16] for i in range(3)])[0]
    seen: list[Query] = []

    def search(queries: list[Query]) -> torch.Tensor:
        seen.extend(queries)
        return torch.from_numpy(found[[query.row for query in queries]])

    writer = conditions.writer("on", search)
    together = writer.write(prompts, max_tokens=8, until=[], left_pad=True)
    assert {(query.row, query.end) for query in seen} >= {(0, 31), (1, 4), (2, 18)}
    alone = []
    for number, prompt in enumerate(prompts):
        only = conditions.writer(
            "on", lambda queries, n=number: search([query._replace(row=n) for query in queries])
        )
        alone += only.write([prompt], max_tokens=8, until=[], left_pad=True)
    assert together == alone
    assert not np.array_equal(found[0], found[1])


def test_what_stands_in_the_prompt_is_not_read_again(
    run: RunDirectory, words: dict[str, list[str]]
) -> None:
    conditions = Conditions(FinishedRun.open(run), {})
    asked = QaConfig(questions="a", passages=4, in_prompt=1)
    text = " ".join(words["train-05"][20:23])
    read, [passages] = qa._search(conditions, "on", asked, [Question("1", text, ["x"])])
    source = conditions.source("on", 4)
    assert source is not None
    [encoded] = conditions.run.tokenizer.encode_batch([text])
    tokens, [found] = source.search([encoded.ids[:16].tolist()])
    k = conditions.run.config.neighbours.k
    assert np.array_equal(read, tokens[:, 1 : 1 + k])
    assert [passage.text for passage in passages] == [one.text for one in found]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "eval.questions has no value and needs one"),
        (["eval.questions=none.jsonl"], "eval.questions=none.jsonl: no such file"),
        (["eval.questions=a", "eval.passages=1"], "2 passages are read"),
        (["eval.questions=a", "eval.answer_tokens=99"], "for one chunk of 16 tokens"),
        (["eval.question=a"], "eval.questions"),
    ],
)
def test_what_cannot_be_asked_is_one_message(
    run: RunDirectory, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"run={run.path}", "eval=qa", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_train_asks_once_the_run_is_evaluated(
    run: RunDirectory, golden: Golden, tmp_path: Path
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "abcd", "answer": "bcde"}')
    config = golden.config("eval=qa", f"eval.questions={file}")
    assert train(replace(config, runs_dir=str(run.path.parent))) is not None
    assert "qa.json" in (run.path / "index.html").read_text()
    assert orjson.loads((run.path / "qa.json").read_bytes())["settings"]["questions"] == str(file)


def test_a_baseline_answers_without_passages(
    run: RunDirectory, golden: Golden, tmp_path: Path
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "abcd", "answer": "bcde"}')
    baseline = RunDirectory(run.path.parent / golden.baseline().path.name)
    record = ask(baseline, file)
    assert record["conditions"] == ["baseline"]
    assert record["recall"] == {}

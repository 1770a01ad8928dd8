"""`eval=qa`: retrieves passages for questions and answers them under every condition."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from retro_lab.config.schema import (
    CorpusDatabaseConfig,
    JsonlCorpusConfig,
    QaConfig,
)
from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.tasks.qa import (
    Passage,
    Question,
    exact_match,
    f1,
    first_with_answer,
    prompt,
    read_questions,
    recall_at,
)
from retro_lab.nn import Query
from retro_lab.store import track

from ..compared import Compared
from ..finished import FinishedRun
from .conditions import Conditions

_SEARCHED_AT_ONCE = 256
Searched = tuple[NDArray[np.int64], list[list[Passage]]]
"""Tokens [Q, K, R] of the passages read as neighbours, and all passages found for each question."""


def with_passages(run: FinishedRun, asked: QaConfig) -> tuple[FinishedRun, list[Question]]:
    """The run and the questions; passages in the file become the run's database, unless one is set.

    The passages are written to the run's folder `questions/` as a JSON Lines corpus.
    """
    assert asked.questions is not None
    questions, passages = read_questions(asked.questions)
    questions = questions[: asked.limit]
    asked_for = run.out is not run.directory
    if not passages or asked_for or not run.config.retriever.retrieves:
        return run, questions
    lines = [orjson.dumps({"id": name, "text": text}) for name, text in passages.items()]
    content = b"\n".join(lines) + b"\n"
    digest = hashlib.sha256(content).hexdigest()[:8]
    path = run.directory.path / "questions" / f"passages-{digest}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    corpus = JsonlCorpusConfig(path=str(path))
    own = CorpusDatabaseConfig(name="corpus", splits=[], corpus=corpus)
    return FinishedRun(run.directory, dataclasses.replace(run.config, database=own)), questions


def answer_questions(
    run: FinishedRun, asked: QaConfig, questions: list[Question], compared: Compared
) -> dict[str, Any]:
    """The record of qa.json: recall of passages, and exact match and F1 by condition."""
    conditions = Conditions(run, compared)
    found = {
        name: _search(conditions, name, asked, questions)
        for name in ("on", "random")
        if name in conditions.names
    }
    ranks = {
        name: [
            first_with_answer([one.text for one in row], question.answers)
            for row, question in zip(passages, questions, strict=True)
        ]
        for name, (_, passages) in found.items()
    }
    prompted = (
        [row[: asked.in_prompt] for row in found["on"][1]] if found else [[]] * len(questions)
    )
    prompts = [
        prompt(question.text, passages)
        for question, passages in zip(questions, prompted, strict=True)
    ]
    answers = {
        name: _answers(conditions, name, asked, prompts, found.get(conditions.below(name)))
        for name in conditions.names
    }
    settings = dataclasses.asdict(asked)
    names = ("questions", "limit", "passages", "in_prompt", "left_pad", "answer_tokens")
    return {
        "settings": {name: settings[name] for name in names},
        "conditions": conditions.names,
        "recall": {
            name: {str(k): share for k, share in recall_at(ranked, asked.passages).items()}
            for name, ranked in ranks.items()
        },
        "answers": {name: _figures(questions, given) for name, given in answers.items()},
        "questions": [
            {
                "id": question.id,
                "question": question.text,
                "answers": question.answers,
                "rank": {name: ranked[number] for name, ranked in ranks.items()},
                "given": {name: given[number] for name, given in answers.items()},
            }
            for number, question in enumerate(questions)
        ],
    }


def _search(
    conditions: Conditions, name: str, asked: QaConfig, questions: list[Question]
) -> Searched:
    """Passages found with at most the first chunk of each question's tokens."""
    source = conditions.source(name, asked.passages)
    assert source is not None
    size, k = source.text.chunks.chunk_size, conditions.run.config.scored_k
    first = asked.in_prompt if name == "on" else 0
    encoded = conditions.run.tokenizer.encode_batch([question.text for question in questions])
    queries = [tokens.ids[:size].tolist() for tokens in encoded]
    values, passages = [], []
    with track(len(queries), f"searching, {label(name)}", "questions") as advance:
        for begin in range(0, len(queries), _SEARCHED_AT_ONCE):
            part = queries[begin : begin + _SEARCHED_AT_ONCE]
            tokens, found = source.search(part)
            values.append(tokens[:, first : first + k])
            passages += [[Passage(one.document, one.text) for one in row] for row in found]
            advance(len(part))
    return np.concatenate(values), passages


def _answers(
    conditions: Conditions, name: str, asked: QaConfig, prompts: list[str], found: Searched | None
) -> list[str]:
    """The first line of each prompt's generated text."""

    def search(queries: list[Query]) -> torch.Tensor:
        assert found is not None
        return torch.from_numpy(found[0][[query.row for query in queries]])

    tokenizer = conditions.run.tokenizer
    writer = conditions.writer(name, None if found is None else search)
    encoded = tokenizer.encode_batch(prompts)
    with track(len(prompts), f"answering, {label(name)}", "questions") as advance:
        texts = writer.write(
            [[tokenizer.boundary_id, *tokens.ids.tolist()] for tokens in encoded],
            max_tokens=asked.answer_tokens,
            until=["\n"],
            left_pad=asked.left_pad,
            advance=advance,
        )
    return [text.strip() for text in texts]


def _figures(questions: list[Question], given: list[str]) -> dict[str, float]:
    pairs = list(zip(given, (question.answers for question in questions), strict=True))
    return {
        "exact_match": sum(exact_match(*pair) for pair in pairs) / len(pairs),
        "f1": sum(f1(*pair) for pair in pairs) / len(pairs),
    }

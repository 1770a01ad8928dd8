"""Contract: answers are compared as SQuAD does, a passage counts when an answer stands in it in
whole words, and a malformed file of questions is one message that names the place.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retro_lab.config.errors import UserError
from retro_lab.evaluation.tasks.qa import (
    Passage,
    Question,
    exact_match,
    f1,
    first_with_answer,
    normalise,
    prompt,
    read_questions,
    recall_at,
)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The  Beatles.", "beatles"),
        ("an apple a day", "apple day"),
        ("U.S.A.", "usa"),
        ("Anthem", "anthem"),
        ("14 December 1972,\nUTC", "14 december 1972 utc"),
        ("the", ""),
    ],
)
def test_normal_form(text: str, form: str) -> None:
    assert normalise(text) == form


@pytest.mark.parametrize(
    ("given", "right", "exact", "overlap"),
    [
        ("the Beatles", ["Beatles!"], True, 1.0),
        ("Bob", ["Bobby Scott", "bob"], True, 1.0),
        ("December 1972", ["14 December 1972 UTC"], False, 2 * 2 / (2 + 4)),
        ("one one two", ["one two three"], False, 2 * 2 / (3 + 3)),
        ("four", ["one season"], False, 0.0),
        ("", ["one"], False, 0.0),
        ("the", ["a"], True, 1.0),
    ],
)
def test_answers(given: str, right: list[str], exact: bool, overlap: float) -> None:
    assert exact_match(given, right) is exact
    assert f1(given, right) == pytest.approx(overlap)


def test_a_passage_holds_an_answer_in_whole_words() -> None:
    passages = ["In 19720, nothing.", "It was the (14) of December, 1972.", "1972"]
    assert first_with_answer(passages, ["1972"]) == 2
    assert first_with_answer(passages, ["December 1972", "19720"]) == 1
    assert first_with_answer(passages, ["14 december"]) is None
    assert first_with_answer(passages, ["the"]) is None


def test_in_scripts_without_spaces_each_letter_is_a_word() -> None:
    assert first_with_answer(["黄河。", "长江是亚洲最长的河流。"], ["长江"]) == 2
    assert first_with_answer(["東京タワーは333メートル"], ["333"]) == 1
    assert first_with_answer(["東京タワーは333メートル"], ["33", "タワ ー", "都"]) == 1
    assert first_with_answer(["東京タワーは333メートル"], ["33", "都"]) is None
    assert first_with_answer(["กรุงเทพเป็นเมืองหลวง"], ["กรุงเทพ"]) == 1
    assert f1("亚洲的长江", ["长江"]) == pytest.approx(2 * 2 / (5 + 2))
    assert f1("河流", ["长江"]) == 0
    assert exact_match("「长江」。", ["长江"])
    assert exact_match("the 长江 in China", ["长江 IN china"])
    assert not exact_match("长江", ["长河"])


def test_a_letter_keeps_the_marks_that_stand_on_it() -> None:
    assert normalise("ก่า") == "ก่ า"
    assert first_with_answer(["ก่า"], ["ก"]) is None


@pytest.mark.parametrize("text", ["São Paulo", "서울은 한국", "\u201cÜberlingen\u201d", "१९५८ में"])
def test_words_of_scripts_with_spaces_stay_whole(text: str) -> None:
    assert normalise(text) == text.lower()


def test_recall_counts_questions() -> None:
    assert recall_at([1, 3, None, 20], 20) == {1: 0.25, 2: 0.25, 5: 0.5, 10: 0.5, 20: 0.75}
    assert recall_at([1, 3], 3) == {1: 0.5, 2: 0.5, 3: 1.0}


def test_prompts() -> None:
    assert prompt("who?") == "question: who?\nanswer:"
    assert prompt("who?", [Passage("a", " x\ny ")]) == (
        "title: a, source: x\ny\nquestion: who?\nanswer:"
    )


def test_nq_open(tmp_path: Path) -> None:
    file = tmp_path / "nq.jsonl"
    file.write_text('{"question": "who", "answer": ["a", "b"]}\n\n{"question": "x", "answer": "c"}')
    questions, passages = read_questions(str(file))
    assert questions == [Question("1", "who", ["a", "b"]), Question("3", "x", ["c"])]
    assert passages == {}


def squad() -> dict:
    def asked(name: str) -> dict:
        return {"id": name, "question": f"{name}?", "answers": [{"text": "Rhine"}]}

    paragraphs = [
        {"context": "The Rhine.", "qas": [asked("q1"), asked("q2")]},
        {"context": "The Elbe.", "qas": [asked("q3")]},
    ]
    return {"data": [{"title": "Rivers", "paragraphs": paragraphs}], "version": "1.1"}


@pytest.mark.parametrize("indent", [None, 2])
def test_squad_carries_its_passages(tmp_path: Path, indent: int | None) -> None:
    file = tmp_path / "squad.json"
    file.write_text(json.dumps(squad(), indent=indent))
    questions, passages = read_questions(str(file))
    assert questions[2] == Question("q3", "q3?", ["Rhine"])
    assert passages == {"Rivers 1": "The Rhine.", "Rivers 2": "The Elbe."}


def test_questions_without_an_answer_are_passed_over(tmp_path: Path) -> None:
    content = squad()
    none = {"id": "q0", "question": "Why?", "answers": [], "is_impossible": True}
    content["data"][0]["paragraphs"][0]["qas"].insert(0, none)
    file = tmp_path / "squad2.json"
    file.write_text(json.dumps(content))
    assert [question.id for question in read_questions(str(file)).questions] == ["q1", "q2", "q3"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"question": "a", "answer": ["b"]}\n{"question": ', "q.jsonl, line 2: "),
        ('{"question": "a"}', "q.jsonl, line 1: expected a `question` and its `answer`"),
        ('{"question": "a", "answer": []}', "q.jsonl, line 1: expected"),
        ('{"question": "a", "answer": [1]}', "q.jsonl, line 1: expected"),
        ('{"question": " ", "answer": ["b"]}', "q.jsonl, line 1: expected"),
        ("[1]", "q.jsonl, line 1: not a JSON object"),
        ('{\n"data": [{}]}', "not SQuAD's format: KeyError\\('paragraphs'\\)"),
        ('{\n"data": [', "q.jsonl, line 2: "),
        ("\n", "the file has no questions"),
    ],
)
def test_a_malformed_file_is_one_message(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(content)
    with pytest.raises(UserError, match=said):
        read_questions(str(file))


def test_a_missing_file_is_one_message() -> None:
    with pytest.raises(UserError, match=r"eval.questions=none.jsonl: no such file"):
        read_questions("none.jsonl")

"""Open-domain question answering: question files, prompts, and scores of answers and passages.

Answers are normalised and compared as in SQuAD (Rajpurkar et al. 2016): lower case, no punctuation,
no articles, single spaces; the best match among several right answers counts. In scripts without
spaces, such as Chinese, Japanese and Thai, each letter with its combining marks counts as a word,
and full-width punctuation is removed (as in MLQA for Chinese, Lewis et al. 2020).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from retro_lab.config.errors import UserError
from retro_lab.text.readers.files import SourceFile, json_objects, lines

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_FORMATS = 'one {"question": "...", "answer": ["..."]} a line, or a file in SQuAD\'s format'
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WITHOUT_SPACES = (  # beginnings of the Unicode names of letters in scripts without spaces
    *("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO", "YI "),
    *("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "TAI ", "NEW TAI", "JAVANESE", "BALINESE"),
)


class Question(NamedTuple):
    """A question and its right answers.

    Attributes:
        id: id in the file, or line number.
    """

    id: str
    text: str
    answers: list[str]


class QuestionFile(NamedTuple):
    """The content of a question file.

    Attributes:
        passages: by id, the passages of a SQuAD file; empty for JSON lines.
    """

    questions: list[Question]
    passages: dict[str, str]


class Passage(NamedTuple):
    """A retrieved passage.

    Attributes:
        title: id of its document.
        text: the text that the model reads: the chunk, its continuation, or both.
    """

    title: str
    text: str


def read_questions(path: str) -> QuestionFile:
    """Reads a file in the format of NQ-open (JSON lines of question and answer) or of SQuAD.

    Raises:
        UserError: the file is missing, has neither format, or has no question.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(
            f"eval.questions={path}: no such file",
            fix="set eval.questions to a file of questions, NQ-open's or SQuAD's",
        )
    rows = list(lines(SourceFile(file.name, file, None)))
    found = QuestionFile(list(_lines(file, rows)), {}) if _is_lines(rows) else _squad(file, rows)
    if not found.questions:
        raise UserError(f"eval.questions={path}: the file has no questions", fix="add some")
    return found


def _is_lines(rows: Sequence[bytes]) -> bool:
    """Whether the file has one JSON value a line, unlike SQuAD's single JSON object."""
    first = next((row for row in rows if not row.isspace()), b"")
    try:
        return "data" not in orjson.loads(first)
    except (orjson.JSONDecodeError, TypeError):
        return first.strip() != b"{" and not first.rstrip().endswith((b"[", b","))


def _lines(file: Path, rows: Sequence[bytes]) -> Iterator[Question]:
    for number, record in json_objects(rows, str(file), _FORMATS):
        text, answers = record.get("question"), record.get("answer", record.get("answers"))
        answers = [answers] if isinstance(answers, str) else answers
        name = str(record.get("id", number))
        yield _question(f"{file}, line {number}", name, text, answers)


def _squad(file: Path, rows: Sequence[bytes]) -> QuestionFile:
    questions, passages = [], {}
    try:
        articles = orjson.loads(b"".join(rows))["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                name = f"{article.get('title', 'passage')} {len(passages) + 1}"
                passages[name] = paragraph["context"]
                for asked in paragraph["qas"]:
                    if asked.get("is_impossible"):
                        continue  # SQuAD 2.0 has questions without an answer
                    answers = [answer["text"] for answer in asked["answers"]]
                    place = f"{file}, question {asked['id']}"
                    questions.append(_question(place, asked["id"], asked["question"], answers))
    except orjson.JSONDecodeError as error:
        raise _malformed(f"{file}, line {error.lineno}", error.msg) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise _malformed(str(file), f"not SQuAD's format: {error!r}") from error
    return QuestionFile(questions, passages)


def _question(place: str, name: str, text: Any, answers: Any) -> Question:
    right = isinstance(answers, list) and all(isinstance(answer, str) for answer in answers)
    if not isinstance(text, str) or not text.strip() or not right or not answers:
        raise _malformed(place, "expected a `question` and its `answer`: a text, or several")
    return Question(name, text.strip(), list(answers))


def _malformed(place: str, what: str) -> UserError:
    return UserError(f"{place}: {what}", fix=_FORMATS)


def prompt(question: str, passages: Sequence[Passage] = ()) -> str:
    """The prompt in RETRO's format, a field a line; RETRO++ puts passages before it."""
    before = "".join(f"title: {one.title}, source: {one.text.strip()}\n" for one in passages)
    return f"{before}question: {question}\nanswer:"


def normalise(text: str) -> str:
    """SQuAD's normal form of an answer; each letter of a script without spaces is a word."""
    plain = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    if not plain.isascii():
        plain = _parted(plain)
    return " ".join(plain.split())


def _parted(text: str) -> str:
    """Text with spaces around each letter of a script without spaces."""
    out = []
    after_letter = False
    for character in text:
        if _is_wide_punctuation(character):
            continue
        if after_letter and unicodedata.category(character).startswith("M"):
            out.append(character)
            continue
        is_letter = _is_word(character)
        if is_letter or after_letter:
            out.append(" ")
        out.append(character)
        after_letter = is_letter
    return "".join(out)


@lru_cache(maxsize=2**16)
def _is_word(character: str) -> bool:
    is_letter = unicodedata.category(character).startswith("L")
    return is_letter and unicodedata.name(character, "").startswith(_WITHOUT_SPACES)


def _is_wide_punctuation(character: str) -> bool:
    is_wide = unicodedata.east_asian_width(character) in "FWH"
    return is_wide and unicodedata.category(character).startswith("P")


def exact_match(answer: str, right: Sequence[str]) -> bool:
    """Whether the answer is one of the right ones, normalised."""
    return normalise(answer) in {normalise(one) for one in right}


def f1(answer: str, right: Sequence[str]) -> float:
    """Largest F1 over the right answers: harmonic mean of word precision and recall."""
    return max((_f1(normalise(answer).split(), normalise(one).split()) for one in right), default=0)


def _f1(answer: Sequence[str], right: Sequence[str]) -> float:
    shared = sum((Counter(answer) & Counter(right)).values())
    if not answer or not right:
        return float(answer == right)
    return 2 * shared / (len(answer) + len(right))


def first_with_answer(passages: Sequence[str], right: Sequence[str]) -> int | None:
    """Rank, from 1, of the first passage that contains a right answer as normalised whole words."""
    wanted = [f" {form} " for one in right if (form := normalise(one))]
    for rank, text in enumerate(passages, 1):
        inside = f" {normalise(text)} "
        if any(form in inside for form in wanted):
            return rank
    return None


def recall_at(ranks: Sequence[int | None], most: int) -> dict[int, float]:
    """By k = 1, 2, 5, 10, ... `most`: share of questions with an answer in the first k passages."""
    places = sorted({k for k in (1, 2, 5, 10, 20, 50, 100) if k < most} | {most})
    return {k: sum(r is not None and r <= k for r in ranks) / len(ranks) for k in places}

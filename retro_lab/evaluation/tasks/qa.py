"""Open-domain questions: reading files of them, prompts, and what answers and passages are worth.

Answers are normalised and compared as SQuAD does (Rajpurkar et al. 2016): lower case, without
punctuation and articles, words parted by single spaces; the best of several right answers counts.
Chinese, Japanese, Thai and other scripts are written without spaces: there each letter counts as a
word, with the marks that stand on it, and full-width punctuation is left out too (as MLQA does for
Chinese, Lewis et al. 2020).
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
_WITHOUT_SPACES = (  # how Unicode's names of their letters begin
    *("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO", "YI "),
    *("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "TAI ", "NEW TAI", "JAVANESE", "BALINESE"),
)


class Question(NamedTuple):
    """A question and its right answers.

    Attributes:
        id: its id in the file, or the number of its line.
    """

    id: str
    text: str
    answers: list[str]


class QuestionFile(NamedTuple):
    """What a file of questions holds.

    Attributes:
        passages: by id, the texts that a SQuAD file's questions are about; none for JSON lines.
    """

    questions: list[Question]
    passages: dict[str, str]


class Passage(NamedTuple):
    """A passage that was found.

    Attributes:
        title: its document's id.
        text: what the model reads of it: the chunk, what follows it, or both.
    """

    title: str
    text: str


def read_questions(path: str) -> QuestionFile:
    """A file in the format of NQ-open (JSON lines of question and answer) or of SQuAD.

    Raises:
        UserError: no such file, none of these formats, or no question in it.
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
    """Whether it is a JSON value a line, and not one over all lines as SQuAD's is."""
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
                        continue  # SQuAD 2.0 asks some that have no answer
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
    """What the answer follows on: RETRO's fields, a line each; RETRO++ puts a passage before."""
    before = "".join(f"title: {one.title}, source: {one.text.strip()}\n" for one in passages)
    return f"{before}question: {question}\nanswer:"


def normalise(text: str) -> str:
    """SQuAD's normal form of an answer, with letters of scripts without spaces as words."""
    plain = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    if not plain.isascii():
        plain = _parted(plain)
    return " ".join(plain.split())


def _parted(text: str) -> str:
    """Text with spaces around each letter of a script that is written without them."""
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
    """Overlap with the nearest right answer in words: the harmonic mean of precision and recall."""
    return max((_f1(normalise(answer).split(), normalise(one).split()) for one in right), default=0)


def _f1(answer: Sequence[str], right: Sequence[str]) -> float:
    shared = sum((Counter(answer) & Counter(right)).values())
    if not answer or not right:
        return float(answer == right)
    return 2 * shared / (len(answer) + len(right))


def first_with_answer(passages: Sequence[str], right: Sequence[str]) -> int | None:
    """Rank, from 1, of the first passage in which a right answer stands, in whole words, as
    `normalise` parts them.
    """
    wanted = [f" {form} " for one in right if (form := normalise(one))]
    for rank, text in enumerate(passages, 1):
        inside = f" {normalise(text)} "
        if any(form in inside for form in wanted):
            return rank
    return None


def recall_at(ranks: Sequence[int | None], most: int) -> dict[int, float]:
    """Share of questions with an answer in the first k passages, for k = 1, 2, 5, 10, .. `most`."""
    places = sorted({k for k in (1, 2, 5, 10, 20, 50, 100) if k < most} | {most})
    return {k: sum(r is not None and r <= k for r in ranks) / len(ranks) for k in places}

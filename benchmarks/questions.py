"""How often each retriever finds the passage that answers a question.

    python benchmarks/questions.py xquad.en.json --set store.dir=/scratch/store
    python benchmarks/questions.py xquad.en.json --among wiki_vital.jsonl.zst

Questions and passages are a file in SQuAD's format. The passages, alone or among the documents of
a JSON lines file, are cut into chunks and searched with the question as it stands. A passage is
found by its document; an answer, if its text stands in a chunk or in the chunk's continuation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from experiment_page import HERE, change_page, with_table

import retro_lab as rl
from retro_lab.evaluation.report.table import Table

RETRIEVERS = ("random", "lda", "tfidf", "bm25", "faiss_flat", "dense_bm25_rerank", "hybrid")
KS = (1, 5, 20)


@dataclass(frozen=True)
class Question:
    """A question, the number of its passage, and its answers."""

    text: str
    passage: str
    answers: Sequence[str]


def read_questions(path: Path) -> tuple[list[str], list[Question]]:
    """Passages, whose places are their numbers, and the questions about them."""
    passages: list[str] = []
    questions: list[Question] = []
    for article in json.loads(_text(path))["data"]:
        for paragraph in article["paragraphs"]:
            name = f"passage {len(passages)}"
            passages.append(paragraph["context"])
            questions += [
                Question(qa["question"], name, [each["text"] for each in qa["answers"]])
                for qa in paragraph["qas"]
            ]
    return passages, questions


def _text(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().stream_reader(content).read()
    return content.decode("utf-8")


def found(hits: Sequence[rl.Hit], question: Question, k: int) -> tuple[bool, bool]:
    """Whether the first k hits hold the question's passage, and one of its answers."""
    best = hits[:k]
    texts = [f"{hit.text}{hit.continuation}" for hit in best]
    return (
        any(hit.document_id == question.passage for hit in best),
        any(answer in text for answer in question.answers for text in texts),
    )


def measure(name: str, texts: dict[str, str], questions: list[Question], own: list[str]) -> Any:
    """Shares of the questions whose passage and answer are found, by k."""
    database = rl.Database.from_texts(texts.values(), f"retriever={name}", *own, ids=list(texts))
    hits = database.search([question.text for question in questions], max(KS))
    shares = {}
    for k in KS:
        each = np.array([found(h, q, k) for h, q in zip(hits, questions, strict=True)])
        shares[f"{k}"] = [round(float(share), 4) for share in each.mean(axis=0)]
    return {"chunks": len(database), "found": shares}


def table(known: dict[str, Any]) -> str:
    """The figures in Markdown, a row a retriever and a text that is searched."""
    head = ["searched", "chunks", "retriever", *(f"passage in {k}" for k in KS)]
    rows = [
        [
            scope if place == 0 else "",
            f"{each['chunks']:,}" if place == 0 else "",
            f"`{name}`",
            *(f"{100 * each['found'][f'{k}'][part]:.1f} %" for part in (0, 1) for k in KS),
        ]
        for scope, found in known.items()
        for place, (name, each) in enumerate(found.items())
    ]
    return Table([*head, *(f"answer in {k}" for k in KS)], rows, names=3).markdown()


def main() -> None:
    """Prints the figures, and writes benchmarks/questions.json and the table of the docs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", type=Path, help="a file in SQuAD's format")
    parser.add_argument("--among", type=Path, help="JSON lines of other documents to search too")
    parser.add_argument("--set", action="append", default=[], help="an override of train.py")
    asked = parser.parse_args()
    passages, questions = read_questions(asked.questions)
    texts = {f"passage {number}": text for number, text in enumerate(passages)}
    if asked.among is not None:
        lines = map(json.loads, _text(asked.among).splitlines())
        texts |= {f"other {number}": line["text"] for number, line in enumerate(lines)}
    record = HERE / "questions.json"
    known = json.loads(record.read_text()) if record.is_file() else {}
    scope = known.setdefault(asked.among.name if asked.among else "passages alone", {})
    print(f"{len(questions)} questions, {len(texts)} documents")
    for name in RETRIEVERS:
        scope[name] = measure(name, texts, questions, asked.set)
        record.write_text(json.dumps(known, indent=1) + "\n")
        shares = scope[name]["found"]
        print(f"{name:20}", *(f"@{k} {a:.3f} {b:.3f}" for k, (a, b) in shares.items()))
    change_page(lambda page: with_table(page, "questions", table(known)))


if __name__ == "__main__":
    main()

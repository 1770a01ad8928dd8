"""A corpus of random words as JSONL, with a list of document ids a split and copies to be found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson


@dataclass(frozen=True)
class CorpusSize:
    """Documents of each split and words of each document.

    Attributes:
        words: that the texts are drawn from.
        documents: of training, validation and test, without the copies.
        lengths: words of a document of training, validation and test.
        copies: names of test documents that are copies, and the numbers of the training documents.
    """

    words: int
    documents: tuple[int, int, int]
    lengths: tuple[int, int, int]
    copies: dict[str, int]


SPLITS = ("train", "validation", "test")


def write_corpus(folder: Path, size: CorpusSize) -> None:
    """Writes `corpus.jsonl` and the ids of each split, `train.txt` and so on."""
    rng = np.random.default_rng(7)
    words = ["".join(rng.choice(list("abcdefghij"), 4)) for _ in range(size.words)]
    ids: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for split, documents, length in zip(SPLITS, size.documents, size.lengths, strict=True):
        digits = len(str(documents))
        ids[split] = [f"{split}-{i:0{digits}}" for i in range(documents)]
        texts |= {name: " ".join(rng.choice(words, length)) for name in ids[split]}
    for name, number in size.copies.items():
        texts[name] = texts[ids["train"][number]]
        ids["test"].append(name)
    lines = [orjson.dumps({"id": name, "text": text}) for name, text in texts.items()]
    (folder / "corpus.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    for split, names in ids.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")


def corpus_overrides(folder: Path) -> list[str]:
    """Settings that read what `write_corpus` wrote."""
    lists = [f"corpus.split.{split}_ids={folder / split}.txt" for split in SPLITS]
    return ["corpus=jsonl", f"corpus.path={folder / 'corpus.jsonl'}", *lists]

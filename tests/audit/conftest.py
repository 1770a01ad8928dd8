"""A small text and its training text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from retro_lab.audit.texts import Text

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "mat",
    "log",
    "sat",
    "ran",
    "on",
    "under",
    "and",
    "but",
    "red",
    "blue",
    "naïve",
    "café",
]


def sentences(count: int, seed: int) -> list[str]:
    """Documents of drawn words, some with characters of two bytes."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 16)) + "." for _ in range(count)]


def as_texts(documents: list[str]) -> list[Text]:
    return [Text(f"d{n}", text, text.encode()) for n, text in enumerate(documents)]


@pytest.fixture
def texts() -> list[Text]:
    return as_texts(sentences(6, 0))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of test.jsonl and train.jsonl, which share nothing long."""
    for name, seed in (("test", 0), ("train", 1)):
        rows = [{"id": f"{name}{n}", "text": t} for n, t in enumerate(sentences(6, seed))]
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return tmp_path

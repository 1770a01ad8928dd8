"""Small texts of drawn words."""

from __future__ import annotations

import numpy as np

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

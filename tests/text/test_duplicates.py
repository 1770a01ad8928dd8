"""Contract: exactly the scored documents whose text stands in the training split, but for white
space, are counted."""

from __future__ import annotations

import numpy as np
import pytest

from retro_lab.text.corpus import SPLITS, Corpus
from retro_lab.text.duplicates import duplicates_in_training


class Texts(Corpus):
    """Documents in memory."""

    def __init__(self, texts: list[str], splits: list[str]) -> None:
        data = [text.encode() for text in texts]
        self.offsets = np.cumsum([0, *map(len, data)])
        self._text = np.frombuffer(b"".join(data), np.uint8)
        self.split = np.array([SPLITS.index(split) for split in splits], np.uint8)


@pytest.mark.parametrize(
    ("split", "expected"), [("test", [3, 4]), ("validation", []), ("train", [])]
)
def test_copies_are_found_and_texts_of_the_same_length_are_not(
    split: str, expected: list[int]
) -> None:
    texts = ["abc", "xyzw", "other", "abc", "abc", "abd", "abcx", "wxyz"]
    splits = ["train", "train", "train", "test", "test", "test", "test", "validation"]
    assert duplicates_in_training(Texts(texts, splits), split).tolist() == expected


def test_white_space_does_not_silence_a_copy_and_words_still_count() -> None:
    texts = ["a  b\n\tc", "  ", "a b c\n", "\r\na b\x0cc ", "ab c", "a b cd", "\n", ""]
    splits = ["train"] * 2 + ["test"] * 6
    assert duplicates_in_training(Texts(texts, splits), "test").tolist() == [2, 3]

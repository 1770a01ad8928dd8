"""Finds documents of a split that the training split also holds, up to white space."""

from __future__ import annotations

import hashlib
import string

import numpy as np
from numpy.typing import NDArray

from .corpus import Corpus

_BLANK = string.whitespace.encode()  # separators of bytes.split()


def duplicates_in_training(corpus: Corpus, split: str) -> NDArray[np.int64]:
    """Numbers of the split's documents whose text equals a training document's; ascending.

    White space is compared as single blanks, and ignored at both ends; empty documents are never
    duplicates. Only training documents with the same number of other bytes are digested.
    """
    if split == "train":
        return np.empty(0, np.int64)
    scored = {int(d): _size(corpus, d) for d in corpus.documents_of(split)}
    sizes = set(scored.values()) - {0}
    suspects = [d for d in corpus.documents_of("train") if _size(corpus, d) in sizes]
    known = {_digest(corpus, document) for document in suspects}
    found = [d for d, size in scored.items() if size and _digest(corpus, d) in known]
    return np.array(found, np.int64)


def _size(corpus: Corpus, document: int | np.integer) -> int:
    """Number of bytes other than white space."""
    return len(corpus.raw(int(document)).translate(None, _BLANK))


def _digest(corpus: Corpus, document: int | np.integer) -> bytes:
    return hashlib.sha256(b" ".join(corpus.raw(int(document)).split())).digest()

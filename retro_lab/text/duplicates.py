"""Documents of one split that stand in the training split as well, but for white space."""

from __future__ import annotations

import hashlib
import string

import numpy as np
from numpy.typing import NDArray

from .corpus import Corpus

_BLANK = string.whitespace.encode()  # what bytes.split() parts by


def duplicates_in_training(corpus: Corpus, split: str) -> NDArray[np.int64]:
    """Numbers of the split's documents whose text some training document has too; ascending.

    Any white space counts as one blank, and none at the ends of a document; a document of nothing
    else is no copy. Only training documents with as many other bytes as a scored one are digested.
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
    """Bytes that are not white space."""
    return len(corpus.raw(int(document)).translate(None, _BLANK))


def _digest(corpus: Corpus, document: int | np.integer) -> bytes:
    return hashlib.sha256(b" ".join(corpus.raw(int(document)).split())).digest()

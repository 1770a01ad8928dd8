"""Documents of one split that stand in the training split as well, byte for byte."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from .corpus import Corpus


def duplicates_in_training(corpus: Corpus, split: str) -> NDArray[np.int64]:
    """Numbers of the split's documents whose text some training document has too; ascending.

    Only training documents of the same length as an evaluated one are read.
    """
    if split == "train":
        return np.empty(0, np.int64)
    scored, train = corpus.documents_of(split), corpus.documents_of("train")
    lengths = np.diff(corpus.offsets)
    suspects = train[np.isin(lengths[train], lengths[scored])]
    known = {_digest(corpus, document) for document in suspects}
    found = [document for document in scored if _digest(corpus, document) in known]
    return np.array(found, np.int64)


def _digest(corpus: Corpus, document: np.integer) -> bytes:
    return hashlib.sha256(corpus.raw(int(document))).digest()

"""Tells ids that a document brought along from names after its place in a file.

A record without an id is named after its place (`train.jsonl:17`), a text file after its path. Such
a name is unique in one corpus only: `train.jsonl:17` of another corpus is another document.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from retro_lab.store.integrity import read_manifest

from .corpus import Corpus

_NAMED_AFTER_PLACES = ("text", "wikitext", "norlund")
"""Kinds of corpora whose records never bring an id."""


def given_ids(corpus: Corpus) -> NDArray[np.bool_]:
    """bool [D], whether a document brought its id along.

    An id in the form of a place in one of the corpus's inputs counts as a place.

    Args:
        corpus: a corpus in the store; its manifest is read.
    """
    spec = read_manifest(corpus.path)["spec"]
    if spec["fields"]["kind"] in _NAMED_AFTER_PLACES:
        return np.zeros(corpus.num_documents, bool)
    return np.array([not _is_place(name, spec["inputs"]) for name in corpus.ids], bool)


def _is_place(name: str, inputs: Container[str]) -> bool:
    """Whether the name is `<input>:<line or row>`, a reader's name for a record without id."""
    source, _, number = name.rpartition(":")
    return source in inputs and number.isdecimal()

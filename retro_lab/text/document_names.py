"""Whose names say what a document is, and whose only say where it lay when it was read.

A record without an id is named after its place (`train.jsonl:17`), a text file after its path. Such
a name is unique in its corpus and nothing more: another one may have a `train.jsonl:17` too, which
is another document.
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
    """bool [D], whether a document's id came with it.

    Told from the ids and the names of the inputs, which every stored corpus has: an id that has the
    form of a place in one of them counts as a place.

    Args:
        corpus: of the store; its manifest is read.
    """
    spec = read_manifest(corpus.path)["spec"]
    if spec["fields"]["kind"] in _NAMED_AFTER_PLACES:
        return np.zeros(corpus.num_documents, bool)
    return np.array([not _is_place(name, spec["inputs"]) for name in corpus.ids], bool)


def _is_place(name: str, inputs: Container[str]) -> bool:
    """Whether it is `<input>:<number of a line or row>`, as readers name a record without an id."""
    source, _, number = name.rpartition(":")
    return source in inputs and number.isdecimal()

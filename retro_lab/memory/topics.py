"""The stage `topics`: what the documents of a database are about, and how like them a text is.

A document is its tf-idf vector, (1 + log tf) log(D / df) over token ids, at unit length; texts are
compared by cosine (Salton and Buckley 1988).

Legend: D documents of the store, V vocabulary, P pairs of a token and a document that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.store import Artifact, Stage, Workspace, mapped
from retro_lab.text.chunks import ChunkStore

VERSION = 1
_BLOCK = 2**15  # chunks
_PAIRS = 2**20  # added to a text's products at once


def topics_stage(chunks: Artifact | Stage) -> Stage:
    """The stage of the tf-idf vectors of a database's documents."""
    return Stage("topics", VERSION, {}, {"chunks": chunks})


def build_topics(chunks: ChunkStore, workspace: Workspace) -> Mapping[str, Any]:
    """Writes the vectors by token: start int64 [V + 1], document int32 [P], weight float32 [P]; and
    the idf of each token, float32 [V].
    """
    ids, vocab = np.asarray(chunks.searched), chunks.vocab_size
    size = workspace.block_size(_BLOCK)
    parts = [_counts(chunks, ids[at : at + size]) for at in range(0, len(ids), size)]
    pairs, place = np.unique(np.concatenate([pair for pair, _ in parts]), return_inverse=True)
    counts = np.bincount(place, np.concatenate([count for _, count in parts]), len(pairs))
    token, document = pairs // chunks.num_documents, pairs % chunks.num_documents
    frequency = np.bincount(token, minlength=vocab)
    total = len(np.unique(document))
    idf = np.log(np.maximum(total, 1) / np.maximum(frequency, 1))
    weight = (1 + np.log(np.maximum(counts, 1))) * idf[token]
    length = np.sqrt(np.bincount(document, weight**2, chunks.num_documents))
    weight /= np.maximum(length, 1e-12)[document]
    start = np.concatenate([[0], np.cumsum(frequency)])
    np.save(workspace.path / "start.npy", start.astype(np.int64))
    np.save(workspace.path / "document.npy", document.astype(np.int32))
    np.save(workspace.path / "weight.npy", weight.astype(np.float32))
    np.save(workspace.path / "idf.npy", idf.astype(np.float32))
    return {"documents": total, "pairs": len(pairs)}


def _counts(
    chunks: ChunkStore, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """token * D + document of each pair in these chunks, ascending, and how often it occurs."""
    tokens = np.asarray(chunks.tokens[ids]).astype(np.int64)
    real = (tokens != chunks.pad_id) & (tokens != chunks.boundary_id)
    document = np.asarray(chunks.document)[ids].astype(np.int64)
    pairs = tokens * chunks.num_documents + document[:, None]
    return np.unique(pairs[real], return_counts=True)


class Topics:
    """tf-idf vectors of a database's documents, in an artifact's folder."""

    def __init__(self, path: Path) -> None:
        self.start, self.document, self.weight, self.idf = (
            mapped(path / f"{name}.npy") for name in ("start", "document", "weight", "idf")
        )


class GrowingText:
    """The cosine between a text that grows and each document of the database.

    Args:
        topics: of the database.
        documents: D.
    """

    def __init__(self, topics: Topics, documents: int) -> None:
        self._topics = topics
        self._counts = np.zeros(len(topics.idf), np.int64)
        self._products = np.zeros(documents)
        self._square = 0.0  # of the text's own length

    def read(self, tokens: NDArray[np.integer]) -> None:
        """Appends tokens to the text."""
        topics = self._topics
        found, counts = np.unique(tokens, return_counts=True)
        known = (found >= 0) & (found < len(topics.idf))
        found, counts = found[known], counts[known]
        before = self._counts[found]
        self._counts[found] += counts
        idf = topics.idf[found].astype(np.float64)
        old = np.where(before > 0, (1 + np.log(np.maximum(before, 1))) * idf, 0)
        new = (1 + np.log(before + counts)) * idf
        self._square = float(np.cumsum([self._square, *(new**2 - old**2)])[-1])
        first = topics.start[found].astype(np.int64)
        pairs = topics.start[found + 1] - first
        # np.add.at adds one pair after the other, so no rounding depends on the blocks.
        block = np.cumsum(pairs) // _PAIRS
        for part in np.split(np.arange(len(found)), np.flatnonzero(np.diff(block)) + 1):
            begin = np.cumsum(pairs[part]) - pairs[part]
            at = np.arange(pairs[part].sum()) + np.repeat(first[part] - begin, pairs[part])
            added = np.repeat((new - old)[part], pairs[part]) * topics.weight[at]
            np.add.at(self._products, topics.document[at], added)

    def cosines(self) -> NDArray[np.float64]:
        """[D], 0 for every document as long as the text is empty."""
        return self._products / max(np.sqrt(max(self._square, 0.0)), 1e-12)

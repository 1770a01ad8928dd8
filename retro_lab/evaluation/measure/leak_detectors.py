"""Detectors of leaked text: scores of chunks that rise if a database holds a copy of them.

Each detector is one that papers use to clean a corpus or to measure leakage:

- `exact_run`: the longest run shared with any text of the database, over the chunk's tokens;
- `neighbour_run`: the same with the neighbours that BM25 finds alone, r(C) (RETRO, B.1);
- `jaccard_13`: Jaccard similarity of the chunk's document with the most similar document, as sets
  of 13-grams (RETRO, section 2.1);
- `unigram`: share of the chunk's tokens that occur in the neighbours that a model reads
  (Doostmohammadi et al., 2023);
- `embedding`: cosine with the most similar chunk of the database.

Shapes: S chunks, M tokens a chunk, K neighbours a chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import Bm25RetrieverConfig
from retro_lab.retrieval.base import NO_CHUNK, NO_TOKEN, Queries
from retro_lab.retrieval.search.registry import build_retriever

from .exact_overlap import chunk_runs, matching_runs
from .ngram_overlap import document_jaccard, unigram_overlap
from .overlap import longest_common_run, overlap_ratio

NEIGHBOURS = 10  # of r(C), as in the paper
READ = 2  # neighbours that a model reads
NGRAM = 13
_BLOCK = 1024  # chunks whose cosines are computed at once

Scores = dict[str, NDArray[np.float64]]


class CutText(NamedTuple):
    """Documents, cut into chunks.

    Attributes:
        tokens: int32 [S, M], -1 for padding and document boundaries; a document begins with one.
        document: int64 [S], ascending.
        vectors: float32 [S, E] of length 1.
    """

    tokens: NDArray[np.int32]
    document: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def with_more(self, more: CutText) -> CutText:
        """These documents, followed by others."""
        document = np.concatenate([self.document, more.document + self.document[-1] + 1])
        return CutText(
            np.concatenate([self.tokens, more.tokens]),
            document,
            np.concatenate([self.vectors, more.vectors]),
        )


def scores_anywhere(text: CutText, database: CutText) -> Scores:
    """[S] scores of the detectors that compare with all of the database.

    The scores for two databases together are the larger of the scores for each.
    """
    size = text.tokens.shape[1]
    matching = matching_runs(
        text.tokens.reshape(-1), database.tokens.reshape(-1), (NO_TOKEN,), size
    )
    jaccard = document_jaccard(_documents(text), _documents(database), NGRAM)
    _, of_document = np.unique(text.document, return_inverse=True)
    return {
        "exact_run": overlap_ratio(chunk_runs(matching.reshape(-1, size)), _lengths(text)),
        "jaccard_13": jaccard[of_document],
        "embedding": _largest_cosine(text.vectors, database.vectors),
    }


def scores_by_neighbours(text: CutText, database: CutText) -> Scores:
    """[S] scores of the detectors that compare with neighbours, each with the chunk after it."""
    retriever = build_retriever(Bm25RetrieverConfig())
    retriever.build(np.arange(len(database.tokens)), database.tokens, None)
    outside = np.full(len(text.tokens), NO_CHUNK)
    found = retriever.candidates(Queries(text.tokens, None, outside, outside), NEIGHBOURS)
    read = _with_continuation(database, found.ids)
    runs = longest_common_run(text.tokens, read, NO_TOKEN, NO_TOKEN)
    # One more, since unigram overlap takes no negative ids.
    unigram = unigram_overlap(text.tokens + 1, read[:, :READ] + 1, (NO_TOKEN + 1,))
    return {"neighbour_run": overlap_ratio(runs, _lengths(text)), "unigram": unigram}


def _lengths(text: CutText) -> NDArray[np.int64]:
    """[S] tokens of each chunk without padding and boundaries."""
    return (text.tokens != NO_TOKEN).sum(axis=1)


def _documents(text: CutText) -> list[NDArray[np.int32]]:
    """The tokens of each document, without padding and boundaries."""
    starts = np.flatnonzero(np.diff(text.document)) + 1
    return [rows[rows != NO_TOKEN] for rows in np.split(text.tokens, starts)]


def _with_continuation(database: CutText, ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """[S, K, 2 M] tokens of chunks [S, K] and of the chunks that follow in their documents."""
    nothing = np.full((1, database.tokens.shape[1]), NO_TOKEN, np.int32)
    tokens = np.concatenate([database.tokens, nothing])  # the last row stands for -1
    ends = np.append(np.diff(database.document) != 0, True)
    following = np.append(np.where(ends, NO_CHUNK, np.arange(1, len(ends) + 1)), NO_CHUNK)
    return np.concatenate([tokens[ids], tokens[following[ids]]], axis=2)


def _largest_cosine(
    vectors: NDArray[np.float32], database: NDArray[np.float32]
) -> NDArray[np.float64]:
    blocks = np.split(vectors, range(_BLOCK, len(vectors), _BLOCK))
    return np.concatenate([(block @ database.T).max(axis=1) for block in blocks]).astype(np.float64)

"""Overlap of chunks with the neighbours read, as other papers measure it.

Unigram overlap is the share of a chunk's tokens that occur anywhere in the neighbours it was
predicted with (Doostmohammadi et al., 2023, released code). Jaccard similarity of n-grams is the
usual measure of near-duplicates (Lee et al., 2022), here with the most similar neighbour.

Shapes: S or Q chunks, K neighbours a chunk, R tokens of a neighbour and its continuation, M tokens
a chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retro_lab.text.chunks import ChunkStore

BLOCK = 2048  # chunks compared at once


@dataclass(frozen=True)
class Similarity:
    """Similarity of chunks to the neighbours read, [S] from 0 to 1.

    Attributes:
        unigram: share of the chunk's tokens that occur in any neighbour.
        jaccard: Jaccard similarity of n-grams with the most similar neighbour.
    """

    unigram: NDArray[np.float64]
    jaccard: NDArray[np.float64]


def similarity(
    store: ChunkStore,
    ids: NDArray[np.int64],
    read: NDArray[np.int64],
    continuation_chunks: int,
    n: int,
) -> Similarity:
    """Both measures for each chunk and its neighbours; 0 without a neighbour or an n-gram.

    Args:
        ids: [S] chunks.
        read: [S, K] chunks read as neighbours, -1 if missing; K may be 0.
        continuation_chunks: following chunks read with each neighbour.
        n: tokens of an n-gram, 1 to M.
    """
    special = (store.pad_id, store.boundary_id)
    unigram, jaccard = np.zeros(len(ids)), np.zeros(len(ids))
    for start in range(0, len(ids), BLOCK):
        block = slice(start, start + BLOCK)
        tokens = store.tokens[ids[block]]
        references = store.values(read[block], continuation_chunks)
        unigram[block] = unigram_overlap(tokens, references, special)
        jaccard[block] = ngram_jaccard(tokens, references, special, n)
    return Similarity(unigram, jaccard)


def unigram_overlap(
    chunks: NDArray[np.integer], references: NDArray[np.integer], special: Collection[int]
) -> NDArray[np.float64]:
    """[Q] share of a chunk's tokens, repeats counted, that occur in any of its neighbours."""
    tokens = chunks.astype(np.int64)
    text = ~np.isin(tokens, list(special))
    read = references.reshape(len(references), -1).astype(np.int64)
    kinds = 1 + int(max(tokens.max(initial=0), read.max(initial=0)))
    row = np.arange(len(tokens))[:, None] * kinds
    found = np.isin(row + tokens, row + read) & text
    return found.sum(axis=1) / np.maximum(text.sum(axis=1), 1)


def ngram_jaccard(
    chunks: NDArray[np.integer],
    references: NDArray[np.integer],
    special: Collection[int],
    n: int,
) -> NDArray[np.float64]:
    """[Q] Jaccard similarity of a chunk's n-grams with those of its most similar neighbour."""
    num_chunks, k, length = references.shape
    if k == 0 or num_chunks == 0:
        return np.zeros(num_chunks)
    width = max(chunks.shape[1], length)
    # Chunks and neighbours in one table, so that equal n-grams get equal numbers.
    rows = np.full((num_chunks * (1 + k), width), next(iter(special)), np.int64)
    rows[:num_chunks, : chunks.shape[1]] = chunks
    rows[num_chunks:, :length] = references.reshape(-1, length)
    names, kinds = _ngram_names(rows, n)
    whole = ~np.lib.stride_tricks.sliding_window_view(np.isin(rows, list(special)), n, 1).any(-1)
    keys = np.unique((np.arange(len(rows))[:, None] * kinds + names)[whole])
    row, name = np.divmod(keys, kinds)
    size = np.bincount(row, minlength=len(rows))
    of_neighbour = row >= num_chunks
    pair, shared_name = row[of_neighbour] - num_chunks, name[of_neighbour]
    shared = np.isin(pair // k * kinds + shared_name, keys[~of_neighbour])
    both = np.bincount(pair, shared, minlength=num_chunks * k).reshape(num_chunks, k)
    either = size[:num_chunks, None] + size[num_chunks:].reshape(num_chunks, k) - both
    return (both / np.maximum(either, 1)).max(axis=1)


def document_jaccard(
    documents: Sequence[NDArray[np.integer]], database: Sequence[NDArray[np.integer]], n: int
) -> NDArray[np.float64]:
    """[D] Jaccard similarity of each document's n-grams with the most similar database document's.

    Exact, where corpus cleaning estimates it by MinHash (RETRO, section 2.1, n = 13).

    Args:
        documents: D arrays of token ids.
        database: at least one array of token ids.
    """
    from scipy.sparse import csr_array

    every = [*documents, *database]
    text = np.concatenate([np.append(tokens, -1) for tokens in every]).astype(np.int64)
    owner = np.repeat(np.arange(len(every)), [len(tokens) + 1 for tokens in every])
    if len(text) < n:
        return np.zeros(len(documents))
    names, kinds = _ngram_names(text[None] + 1, n)
    whole = np.asarray(~np.lib.stride_tricks.sliding_window_view(text < 0, n).any(-1))
    keys = np.unique((owner[: len(whole)] * kinds + names[0])[whole])
    row, name = np.divmod(keys, kinds)
    grams = csr_array((np.ones(len(keys)), (row, name)), shape=(len(every), kinds))
    size = np.bincount(row, minlength=len(every))
    both = (grams[: len(documents)] @ grams[len(documents) :].T).toarray()
    either = size[: len(documents), None] + size[None, len(documents) :] - both
    return (both / np.maximum(either, 1)).max(axis=1)


def _ngram_names(rows: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], int]:
    """[rows, width - n + 1] a number for the n-gram at each place, and the count of numbers.

    Equal n-grams get equal numbers, exactly: longer n-grams are numbered as pairs of overlapping
    shorter ones (Karp, Miller and Rosenberg, 1972).
    """
    names, kinds, length = rows, 1 + int(rows.max()), 1
    while length < n:
        step = min(length, n - length)
        pairs = names[:, :-step] * kinds + names[:, step:]
        values, inverse = np.unique(pairs, return_inverse=True)
        names, kinds, length = inverse.reshape(pairs.shape), len(values), length + step
    return names, kinds

"""Excludes neighbours from the query's own document, so that no chunk reads its own future.

RETRO drops same-document neighbours in training (RETRO, section 2.1 and "causality filter"); here
every search does. Exclusion is by document id, independent of rank and distance, so duplicates that
outrank the query itself are harmless.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..base import NO_CHUNK, Neighbours, Queries, Retriever
from ..search.ranking import first_allowed

MARGIN = 64
"""Candidates fetched beyond k at first: enough for nine chunks in ten, cheap for every backend."""

MAX_FETCHED = 1 << 24
"""Most candidates in memory, queries times candidates, if a row needs very many."""


PairFilter = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps ids of query chunks [P] and candidates [P] to bool [P]: whether the candidate is allowed."""

RowFilter = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps ids of query chunks [Q] and their best candidates [Q, K], -1 at the end, to bool [Q, K]:
whether to drop each. The result for the first K is independent of later candidates.
"""


def search_filled(
    retriever: Retriever,
    queries: Queries,
    k: int,
    chunk_document: np.ndarray,
    passes: PairFilter | None = None,
    repeats: RowFilter | None = None,
    *,
    margin: int = MARGIN,
    most: int = MAX_FETCHED,
) -> Neighbours:
    """The k best neighbours of each query from other documents.

    Fetches k and a margin, drops the query's own document, and doubles the fetch for incomplete
    rows until each has k or its candidates are exhausted; such rows end in -1.

    Args:
        retriever: a built or loaded retriever.
        queries: Q queries.
        k: neighbours a query.
        chunk_document: int [C], the document of every chunk in the store (its `identity`).
        passes: a further condition on query and neighbour, evaluated only for remaining candidates.
        repeats: drops candidates that repeat the query or a better candidate.
        margin: candidates fetched beyond k at first.
        most: candidates held at once, over all queries.
    """
    filled = Neighbours.empty(len(queries.document), k)
    pending = np.arange(len(queries.document))
    fetch = k + margin
    while len(pending):
        unfilled = []
        block = max(1, most // fetch)
        for start in range(0, len(pending), block):
            rows = pending[start : start + block]
            asked = queries.take(rows)
            found = retriever.candidates(asked, fetch)
            allowed = other_documents(found.ids, asked.document[:, None], chunk_document)
            # Half of a refetched row failed to fill it, so that half is filtered in one call.
            width = found.ids.shape[1]
            at_once = k if width <= k + margin else width // 2
            allowed = _settled(found.ids, allowed, k, asked.chunk_ids, passes, repeats, at_once)
            kept = first_allowed(found, allowed, k)
            filled.ids[rows], filled.scores[rows] = kept
            more = (kept.ids[:, -1] == NO_CHUNK) & (found.ids[:, -1] != NO_CHUNK)
            unfilled.append(rows[more])
        pending = np.concatenate(unfilled)
        fetch *= 2
    return filled


def _settled(
    ids: np.ndarray,
    allowed: np.ndarray,
    k: int,
    asking: np.ndarray,
    passes: PairFilter | None,
    repeats: RowFilter | None,
    at_once: int,
) -> np.ndarray:
    """`allowed` [Q, F] after both filters, final up to the k-th neighbour, unfiltered beyond.

    After the first pass only rows with dropped candidates are filtered again.
    """
    if passes is not None:
        allowed = _first_passing(ids, allowed, k, asking, passes, at_once)
    pending = np.arange(len(ids) if repeats is not None else 0)
    while repeats is not None and len(pending):
        rows, names = allowed[pending], ids[pending]
        rank = np.cumsum(rows, axis=1, dtype=np.int32) - 1
        row, column = np.nonzero(rows & (rank < k))
        place = rank[row, column]
        best = np.full((len(names), k), NO_CHUNK, names.dtype)
        best[row, place] = names[row, column]
        dropped = repeats(asking[pending], best)
        rows[row, column] = ~dropped[row, place]
        changed = dropped.any(axis=1)
        if passes is not None:
            again = pending[changed]
            rows[changed] = _first_passing(ids[again], rows[changed], k, asking[again], passes, k)
        allowed[pending] = rows
        pending = pending[changed]
    return allowed


def _first_passing(
    ids: np.ndarray,
    allowed: np.ndarray,
    k: int,
    asking: np.ndarray,
    passes: PairFilter,
    at_once: int,
) -> np.ndarray:
    """`allowed` [Q, F] after `passes`, final up to the k-th passing one, unfiltered beyond.

    Dropped candidates move the next ones up: in each turn a row tests as many further candidates as
    the row has dropped so far. A row that drops nearly all, as in files with the same licence, thus
    takes one turn for each doubling instead of one for every k.

    Args:
        at_once: candidates of a row in its first turn, at least k.
    """
    number = np.cumsum(allowed, axis=1, dtype=np.int32)  # number of each candidate within its row
    asked, refused = np.zeros((2, len(ids)), np.int32)
    until = np.full(len(ids), at_once, np.int32)
    pending = np.arange(len(ids))
    while len(pending):
        turn = (number[pending] > asked[pending, None]) & (number[pending] <= until[pending, None])
        row, column = np.nonzero(turn & allowed[pending])
        row = pending[row]
        kept = passes(asking[row], ids[row, column])
        allowed[row, column] = kept
        refused += np.bincount(row[~kept], minlength=len(ids)).astype(np.int32)
        lacking = (until - refused < k) & (until < number[:, -1])
        pending = pending[lacking[pending]]
        asked[pending] = until[pending]
        until[pending] += refused[pending]
    return allowed


def other_documents(ids: np.ndarray, banned: np.ndarray, chunk_document: np.ndarray) -> np.ndarray:
    """Whether neighbours exist and lie outside the row's banned documents.

    Args:
        ids: int [Q, K], chunk ids, -1 for none.
        banned: int [Q, W], documents, padded with -1.
        chunk_document: int [C], the document of every chunk in the store.

    Returns:
        bool [Q, K].
    """
    document = chunk_document[ids]
    allowed = ids != NO_CHUNK
    for column in range(banned.shape[1]):  # W is small: the documents of one sequence
        allowed &= document != banned[:, column : column + 1]
    return allowed

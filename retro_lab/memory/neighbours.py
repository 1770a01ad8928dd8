"""The nearest states of a database's tokens, with what followed them and how far contexts agree.

Legend: T tokens, K neighbours, L tokens compared, D width of the model.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .datastore import Datastore
from .sorted_contexts import LONGEST

NEIGHBOURS = 64
CANDIDATES = 256
"""States that the index finds for a token, to be ranked anew by their exact distances."""
LONGEST_MATCH = 8
SUMMARY = ("nearest", "distance", "types", "longest_match", "match")
_AT_ONCE = 1024  # states of one document that are searched together
_NEAREST = 1e-3  # in units of the spread; nearer states count as this near


class Neighbours(NamedTuple):
    """The nearest states of T tokens, in the order of the tokens that followed them.

    Attributes:
        distances: float32 [T, K], squared; infinite in a slot without a neighbour.
        tokens: int32 [T, K], ascending; -1 in a slot without a neighbour.
        match: int64 [T, K], last tokens that agree, at most `LONGEST_MATCH`.
    """

    distances: NDArray[np.float32]
    tokens: NDArray[np.int32]
    match: NDArray[np.int64]

    @classmethod
    def none(cls, count: int) -> Neighbours:
        """No neighbours for this many tokens."""
        shape = (count, NEIGHBOURS)
        distances = np.full(shape, np.inf, np.float32)
        return cls(distances, np.full(shape, -1, np.int32), np.zeros(shape, np.int64))

    @classmethod
    def stacked(cls, parts: list[Neighbours]) -> Neighbours:
        """The neighbours of several texts, one after the other."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    @property
    def there(self) -> NDArray[np.bool_]:
        """[T, K], whether a slot has a neighbour."""
        return self.tokens >= 0

    @property
    def farther(self) -> NDArray[np.float32]:
        """[T, K], how much larger each squared distance is than the token's smallest one."""
        nearest = self.distances.min(axis=1, keepdims=True)
        return self.distances - np.where(np.isfinite(nearest), nearest, np.float32(0))

    def spread(self) -> float:
        """Median over the tokens of how much farther the last neighbour is than the first one."""
        last = np.where(self.there, self.farther, 0).max(axis=1, initial=0)
        known = last[last > 0]
        return float(np.median(known)) if len(known) else 1.0

    def summary(self, spread: float) -> NDArray[np.float32]:
        """[T, S], what a gate sees of the neighbours, by `SUMMARY`; 0 without a neighbour.

        Args:
            spread: the unit of distances.
        """
        some, count = self.there.any(axis=1), np.maximum(self.there.sum(axis=1), 1)
        nearest = np.where(some, self.distances.min(axis=1), 0) / spread
        total = np.where(self.there, self.distances, 0).sum(axis=1) / spread
        columns = [
            np.where(some, np.log(np.maximum(nearest, _NEAREST)), 0),
            total / count,
            (np.diff(self.tokens, axis=1, prepend=-1) > 0).sum(axis=1),
            self.match.max(axis=1),
            self.match.sum(axis=1) / count,
        ]
        return np.column_stack(columns).astype(np.float32)


class StateSearch:
    """Searches a datastore for neighbours.

    Args:
        max_run: leaves out states before which more than this many tokens agree; None keeps all.

    Attributes:
        compared: L, last tokens of a context that are compared with those of the database.
    """

    def __init__(self, datastore: Datastore, max_run: int | None = None) -> None:
        self.datastore = datastore
        self._run = max_run if max_run is not None and max_run < LONGEST else None
        self.compared = max(LONGEST_MATCH, (self._run or 0) + 1)

    def neighbours(
        self,
        states: NDArray[np.float32],
        contexts: NDArray[np.int32],
        excluded: NDArray[np.integer],
    ) -> Neighbours:
        """The neighbours of T tokens.

        Args:
            states: [T, D], of the model where it predicts the tokens.
            contexts: [T, L], the tokens before them, last ones first.
            excluded: documents whose states are left out.
        """
        distances, rows = self.datastore.nearest(states, excluded, CANDIDATES)
        if self._run is None:
            distances, rows = distances[:, :NEIGHBOURS], rows[:, :NEIGHBOURS]
        match = self._match(contexts, rows)
        if self._run is not None:
            distances[match > self._run] = np.inf
            nearest = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
            distances, rows, match = _taken(nearest, distances, rows, match)
        there = np.isfinite(distances)
        tokens = np.where(there, self.datastore.tokens[rows], -1).astype(np.int32)
        match = np.where(there, np.minimum(match, LONGEST_MATCH), 0)
        order = np.argsort(tokens, axis=1, kind="stable")
        return Neighbours(*_taken(order, distances, tokens, match))

    def of_rows(self, rows: NDArray[np.intp]) -> Neighbours:
        """The neighbours of states of the datastore itself, in other documents than their own.

        Args:
            rows: ascending.
        """
        document = self.datastore.document
        parts = []
        ends = np.flatnonzero(np.diff(document[rows])) + 1
        blocks = [np.split(of, range(_AT_ONCE, len(of), _AT_ONCE)) for of in np.split(rows, ends)]
        for mine in itertools.chain(*blocks):
            before, inside = self._before(mine[:, None])
            contexts = np.where(inside, self.datastore.tokens[before], -1)[:, 0].astype(np.int32)
            states = self.datastore.keys[mine].astype(np.float32)
            parts.append(self.neighbours(states, contexts, document[mine[:1]]))
        return Neighbours.stacked(parts)

    def _match(self, contexts: NDArray[np.int32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """[T, K], how many of the tokens of a context [T, L] agree with those before the token of a
        row [T, K], last ones first, within the row's document.
        """
        before, inside = self._before(rows)
        agree = inside & (self.datastore.tokens[before] == contexts[:, None])
        return np.logical_and.accumulate(agree, axis=2).sum(axis=2)

    def _before(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows [T, K, L] before each of some rows [T, K], last one first, and whether they belong
        to the same document.
        """
        document = self.datastore.document
        before = rows[:, :, None] - 1 - np.arange(self.compared)
        inside, before = before >= 0, np.maximum(before, 0)
        return before, inside & (document[before] == document[rows][:, :, None])


def _taken(order: NDArray[np.intp], *arrays: NDArray) -> list[NDArray]:
    """The columns of each array [T, K] in an order of each row."""
    return [np.take_along_axis(array, order, axis=1) for array in arrays]

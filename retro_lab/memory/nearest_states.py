"""Experts that read what followed states like this one, anywhere in the database.

An expert weighs the neighbours by softmax(-d / T + beta m), with d the squared distance and m the
number of last tokens that agree with those before the neighbour's. Learned distances and weights
were the first idea; the gate mixes a fixed grid of T and beta in their place.

Legend: T tokens, K neighbours, E experts, V vocabulary, D width of the model, L tokens compared.
"""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .context_evidence import shares
from .datastore import Datastore
from .evidence import Evidence, Text, contexts_of
from .sorted_contexts import LONGEST

NEIGHBOURS = 64
CANDIDATES = 256
"""States that the index finds for a token, to be ranked anew by their exact distances."""
TEMPERATURES = (0.25, 1.0, 4.0)
"""T of the experts, in units of the distances' spread."""
MATCHES = (0.0, 1.0)
"""beta of the experts."""
LONGEST_MATCH = 8
_SAMPLE = 512  # tokens of the database whose neighbours give the spread
_NEAREST = 1e-3  # in units of the spread; nearer states count as this near

_HEADS = [(temperature, beta) for beta in MATCHES for temperature in TEMPERATURES]
_NAMES = [f"{temperature:g}{'_match' if beta else ''}" for temperature, beta in _HEADS]


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


class NearestStates:
    """The experts `knn`, over the states of a database's tokens.

    Args:
        datastore: states of the language model that the experts are mixed into.
        vocab_size: V.
        max_run: leaves out states before which more than this many tokens agree; None keeps all.
    """

    needs_states = True
    experts = tuple(f"knn:{name}" for name in _NAMES)
    features = (
        *("knn:nearest", "knn:distance", "knn:types", "knn:longest_match", "knn:match"),
        *(f"knn:share_{name}" for name in _NAMES),
    )

    def __init__(self, datastore: Datastore, vocab_size: int, max_run: int | None = None) -> None:
        self.datastore, self.vocab_size, self.max_run = datastore, vocab_size, max_run

    @cached_property
    def spread(self) -> float:
        """Median over tokens of the database of how much farther the last neighbour is than the
        first one.
        """
        count = len(self.datastore.tokens)
        rows = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64))
        document = self.datastore.document[rows]
        farther = []
        for own in np.unique(document):
            keys = self.datastore.keys[rows[document == own]].astype(np.float32)
            distances = self.datastore.nearest(keys, np.array([own]), CANDIDATES)[0][:, :NEIGHBOURS]
            last = np.where(np.isfinite(distances), distances, 0).max(axis=1)
            farther += (last - distances[:, 0])[last > 0].tolist()
        return float(np.median(farther or [1.0])) or 1.0

    def read(
        self, text: Text, start: int, stop: int, states: NDArray[np.float32] | None = None
    ) -> Evidence:
        assert states is not None
        places = np.arange(start, stop)
        if text.others is None:
            found = self._neighbours(text, places, states)
        elif len(places) > 1:
            order = _elsewhere(text.others, places)
            found = self._neighbours(text, places[order], states[order])
        else:
            found = Neighbours.none(1)
        return self._evidence(found, text.tokens[start:stop])

    def mixture(
        self, text: Text, share: NDArray[np.float32], states: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        assert states is not None
        found = self._neighbours(text, np.array([len(text.tokens)]), states)
        there = found.tokens[0] >= 0
        weights = (self._weights(found)[0] @ share)[there]
        return np.bincount(found.tokens[0][there], weights, self.vocab_size).astype(np.float32)

    def _neighbours(
        self, text: Text, places: NDArray[np.intp], states: NDArray[np.float32]
    ) -> Neighbours:
        """The neighbours of the tokens at some places of a text, from their states [T, D]."""
        run = self.max_run if self.max_run is not None and self.max_run < LONGEST else None
        compared = LONGEST_MATCH if run is None else max(LONGEST_MATCH, run + 1)
        first, stop = int(places.min()), int(places.max()) + 1
        contexts = contexts_of(text.tokens, first, stop, compared)[places - first]
        distances, rows = self.datastore.nearest(states, text.excluded, CANDIDATES)
        if run is None:
            distances, rows = distances[:, :NEIGHBOURS], rows[:, :NEIGHBOURS]
        match = self._match(contexts, rows)
        if run is not None:
            distances[match > run] = np.inf
            nearest = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
            distances, rows, match = _taken(nearest, distances, rows, match)
        there = np.isfinite(distances)
        tokens = np.where(there, self.datastore.tokens[rows], -1).astype(np.int32)
        match = np.where(there, np.minimum(match, LONGEST_MATCH), 0)
        order = np.argsort(tokens, axis=1, kind="stable")
        return Neighbours(*_taken(order, distances, tokens, match))

    def _match(self, contexts: NDArray[np.int32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """[T, K], how many of the tokens of a context [T, L] agree with those before the token of a
        row [T, K], last ones first, within the row's document.
        """
        document = self.datastore.document
        before = rows[:, :, None] - 1 - np.arange(contexts.shape[1])  # [T, K, L]
        inside, before = before >= 0, np.maximum(before, 0)
        inside &= document[before] == document[rows][:, :, None]
        agree = inside & (self.datastore.tokens[before] == contexts[:, None])
        return np.logical_and.accumulate(agree, axis=2).sum(axis=2)

    def _weights(self, found: Neighbours) -> NDArray[np.float32]:
        """[T, K, E], each neighbour's share of each expert's distribution; 0 in empty slots."""
        temperature, beta = np.array(_HEADS, np.float32).T  # [E]
        nearest = found.distances.min(axis=1, keepdims=True)
        farther = found.distances - np.where(np.isfinite(nearest), nearest, 0)
        match = found.match.astype(np.float32)
        logits = beta * match[:, :, None] - farther[:, :, None] / (temperature * self.spread)
        top = logits.max(axis=1, keepdims=True)
        weights = np.exp(logits - np.where(np.isfinite(top), top, 0))
        return shares(weights, weights.sum(axis=1, keepdims=True))

    def _evidence(self, found: Neighbours, targets: NDArray[np.int32]) -> Evidence:
        """What the experts say of tokens [T] from their neighbours."""
        weights, tokens = self._weights(found), found.tokens
        there = np.isfinite(found.distances)
        pooled = (tokens[:, :, None] == tokens[:, None]).astype(np.float32) @ weights  # [T, K, E]
        some = np.asarray(there.any(axis=1))
        count = np.maximum(there.sum(axis=1), 1)
        nearest = np.where(some, found.distances.min(axis=1), 0) / self.spread
        total = np.where(there, found.distances, 0).sum(axis=1) / self.spread
        columns = [
            np.where(some, np.log(np.maximum(nearest, _NEAREST)), 0),
            total / count,
            (np.diff(tokens, axis=1, prepend=-1) > 0).sum(axis=1),
            found.match.max(axis=1),
            found.match.sum(axis=1) / count,
        ]
        return Evidence(
            np.einsum("tke,tk->te", weights, tokens == targets[:, None]).astype(np.float32),
            np.broadcast_to(some[:, None], (len(tokens), len(_HEADS))),
            np.take_along_axis(tokens, pooled.argmax(axis=1), axis=1),
            np.column_stack([*columns, pooled.max(axis=1)]).astype(np.float32),
        )


def _taken(order: NDArray[np.intp], *arrays: NDArray) -> list[NDArray]:
    """The columns of each array [T, K] in an order of each row."""
    return [np.take_along_axis(array, order, axis=1) for array in arrays]


def _elsewhere(others: NDArray[np.int32], places: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each of two or more places another one of them, at random; fixed by the document that a
    control is about.
    """
    rng = np.random.default_rng((zlib.crc32(others.tobytes()), int(places[0])))
    order, found = rng.permutation(len(places)), np.empty(len(places), np.intp)
    found[order] = np.roll(order, 1)
    return found

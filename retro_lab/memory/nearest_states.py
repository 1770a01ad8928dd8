"""Experts that read what followed states like this one, anywhere in the database.

Each expert is one of the learned weightings of the nearest states, see `match_heads`.

Legend: T tokens, E experts, V vocabulary, D width of the model.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from .datastore import Datastore
from .evidence import Evidence, Text, contexts_of
from .match_heads import HEADS, MatchHeads
from .neighbours import SUMMARY, Neighbours, StateSearch

_NAMES = [str(head) for head in range(1, HEADS + 1)]


class NearestStates:
    """The experts `knn`, over the states of a database's tokens.

    Args:
        datastore: states of the language model that the experts are mixed into.
        heads: fitted on this datastore.
        vocab_size: V.
        max_run: leaves out states before which more than this many tokens agree; None keeps all.
    """

    needs_states = True
    experts = tuple(f"knn:{name}" for name in _NAMES)
    features = (
        *(f"knn:{name}" for name in SUMMARY),
        *(f"knn:share_{name}" for name in _NAMES),
    )

    def __init__(
        self,
        datastore: Datastore,
        heads: MatchHeads,
        vocab_size: int,
        max_run: int | None = None,
    ) -> None:
        self.heads, self.vocab_size = heads, vocab_size
        self.search = StateSearch(datastore, max_run)

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
        there = found.there[0]
        weights = (self.heads.weights(found)[0] @ share)[there]
        return np.bincount(found.tokens[0][there], weights, self.vocab_size).astype(np.float32)

    def _neighbours(
        self, text: Text, places: NDArray[np.intp], states: NDArray[np.float32]
    ) -> Neighbours:
        """The neighbours of the tokens at some places of a text, from their states [T, D]."""
        first, stop = int(places.min()), int(places.max()) + 1
        contexts = contexts_of(text.tokens, first, stop, self.search.compared)[places - first]
        return self.search.neighbours(states, contexts, text.excluded)

    def _evidence(self, found: Neighbours, targets: NDArray[np.int32]) -> Evidence:
        """What the experts say of tokens [T] from their neighbours."""
        weights, tokens = self.heads.weights(found), found.tokens
        pooled = (tokens[:, :, None] == tokens[:, None]).astype(np.float32) @ weights  # [T, K, E]
        some = found.there.any(axis=1, keepdims=True)
        summary = found.summary(self.heads.spread)
        return Evidence(
            np.einsum("tke,tk->te", weights, tokens == targets[:, None]).astype(np.float32),
            np.broadcast_to(some, (len(tokens), HEADS)),
            np.take_along_axis(tokens, pooled.argmax(axis=1), axis=1),
            np.column_stack([summary, pooled.max(axis=1)]),
        )


def _elsewhere(others: NDArray[np.int32], places: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each of two or more places another one of them, at random; fixed by the document that a
    control is about.
    """
    rng = np.random.default_rng((zlib.crc32(others.tobytes()), int(places[0])))
    order, found = rng.permutation(len(places)), np.empty(len(places), np.intp)
    found[order] = np.roll(order, 1)
    return found

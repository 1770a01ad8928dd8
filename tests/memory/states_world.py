"""A datastore of made-up states, and what its nearest neighbours say, by loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from small_database import BOUNDARY, LETTERS, VOCABULARY

from retro_lab.memory.datastore import Datastore, build_index, index_stage
from retro_lab.memory.evidence import Text
from retro_lab.memory.match_heads import MatchHeads
from retro_lab.memory.nearest_states import NearestStates
from retro_lab.memory.neighbours import NEIGHBOURS
from retro_lab.store import ArtifactStore, Stage, Workspace

WIDTH = 8
LENGTHS = {0: 40, 1: 1, 3: 25, 4: 60, 7: 33, 8: 90}
"""Tokens by document; the others hold none."""
HEADS = MatchHeads(
    np.array([0.3, 1.0, 5.0], np.float32),
    np.array([np.zeros(9), np.arange(9), np.sqrt(np.arange(9))], np.float32),
    spread=6.0,
)
"""Weightings that are like no fitted ones."""
COPIED, COPY = 7, 8
"""The document that the text of `World` is much like, and one with some of its text."""


class Neighbour(NamedTuple):
    """A state of the datastore as a neighbour: its squared distance, what followed, its match."""

    distance: float
    token: int
    match: int


class World:
    """Random states of documents of few letters, and of a text that is much like one of them.

    Args:
        factory: of the index.
        lengths: tokens by document.
    """

    def __init__(
        self, folder: Path, factory: str = "Flat", lengths: dict[int, int] = LENGTHS
    ) -> None:
        rng = np.random.default_rng(3)
        self.document = np.repeat(list(lengths), list(lengths.values())).astype(np.int32)
        self.tokens = rng.integers(0, LETTERS, len(self.document)).astype(np.int32)
        some = self.tokens[self.document == COPIED][2:30]
        self.tokens[self.document == COPY] = np.resize(some, (self.document == COPY).sum())
        self.keys = rng.standard_normal((len(self.document), WIDTH)).astype(np.float16)
        store, stage = ArtifactStore(folder), Stage("token_states", 1, {}, {})

        def write(workspace: Workspace) -> dict:
            for name in ("keys", "tokens", "document"):
                np.save(workspace.path / f"{name}.npy", getattr(self, name))
            return {}

        states = store.build(stage, write)
        index = store.build(index_stage(stage, factory), lambda w: build_index(states, factory, w))
        self.datastore = Datastore(states, index, nprobe=4)
        copied = self.tokens[self.document == COPIED]
        body = copied + (np.arange(len(copied)) % 16 == 15)
        self.text = Text(np.array([BOUNDARY, *body % LETTERS], np.int32), np.array([COPIED]))
        near = self.keys[self.document == COPIED].astype(np.float32)
        self.states = near + 0.1 * rng.standard_normal(near.shape).astype(np.float32)

    def experts(self, **settings) -> NearestStates:
        return NearestStates(self.datastore, HEADS, VOCABULARY, **settings)

    def neighbours(
        self,
        text: Text,
        place: int,
        state: NDArray[np.float32],
        max_run: int | None = None,
    ) -> list[Neighbour]:
        """The nearest states outside the text's documents, nearest first."""
        found = []
        for row, document in enumerate(self.document.tolist()):
            if document in text.excluded:
                continue
            difference = self.keys[row].astype(np.float64) - state
            first = int(np.flatnonzero(self.document == document)[0])
            before = self.tokens[first:row][::-1].tolist()
            match = agreeing(before, text.tokens[:place][::-1].tolist())
            if max_run is None or match <= max_run:
                token = int(self.tokens[row])
                found.append(Neighbour(float(difference @ difference), token, min(match, 8)))
        return sorted(found)[:NEIGHBOURS]


def agreeing(left: Sequence[int], right: Sequence[int]) -> int:
    """How many of the first tokens are the same."""
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    return count


def distributions(neighbours: list[Neighbour]) -> NDArray[np.float64]:
    """[E, V], each expert's distribution; 0 without a neighbour."""
    found = []
    for temperature, bias in zip(HEADS.temperature, HEADS.bias, strict=True):
        pooled = np.zeros(VOCABULARY)
        for distance, token, match in neighbours:
            pooled[token] += np.exp(bias[match] - distance / (temperature * HEADS.spread))
        found.append(pooled / max(pooled.sum(), 1e-300))
    return np.array(found)

"""Retrievers outside the package: one with a setting, and one that breaks the contract."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from word_overlap import WordOverlap

from retro_lab.retrieval.base import Neighbours, Retriever


@dataclass
class Settings:
    at_least: int = 1


class Sharing(WordOverlap):
    """Neighbours share at least so many tokens with the query."""

    def __init__(self, config: Settings) -> None:
        self.at_least = config.at_least

    def candidates(self, queries, k):
        found = super().candidates(queries, k)
        enough = found.scores >= self.at_least
        return Neighbours(np.where(enough, found.ids, -1), np.where(enough, found.scores, -np.inf))


class Unordered(Retriever):
    """Breaks the contract: the first chunks of the database, at random scores."""

    def __init__(self, config: object) -> None:
        self.chunk_ids = np.empty(0, np.int64)

    def build(self, chunk_ids, tokens, embeddings=None, workspace=None):
        self.chunk_ids = chunk_ids
        return {}

    def candidates(self, queries, k):
        found = Neighbours.empty(len(queries.tokens), k)
        count = min(k, len(self.chunk_ids))
        found.ids[:, :count] = self.chunk_ids[:count]
        found.scores[:, :count] = np.random.default_rng(0).random((len(found.ids), count))
        return found

    def save(self, folder):
        np.save(folder / "ids.npy", self.chunk_ids)

    @classmethod
    def load(cls, folder, config):
        retriever = cls(config)
        retriever.chunk_ids = np.load(folder / "ids.npy")
        return retriever

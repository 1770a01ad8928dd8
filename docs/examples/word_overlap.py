"""A retriever of one's own: the neighbours that share the most different tokens with the query."""

from dataclasses import dataclass

import numpy as np

from retro_lab.retrieval.base import Retriever
from retro_lab.retrieval.search.ranking import best_of_rows


@dataclass
class Settings:
    at_least: int = 1  # shared tokens


class WordOverlap(Retriever):
    def __init__(self, config: Settings):
        self.at_least = config.at_least

    def build(self, chunk_ids, tokens, embeddings=None, workspace=None):
        self.chunk_ids, self.tokens = chunk_ids, np.asarray(tokens)
        return {}

    def candidates(self, queries, k):
        shared = np.zeros((len(queries.tokens), len(self.chunk_ids)), np.float32)
        for row, query in enumerate(queries.tokens):
            for token in np.unique(query[query >= 0]):  # -1 is padding
                shared[row] += (self.tokens == token).any(axis=1)
        rows, columns = np.nonzero(shared >= self.at_least)
        found = self.chunk_ids[columns], shared[rows, columns]
        return best_of_rows(rows, *found, len(shared), k)

    def save(self, folder):
        np.savez(folder / "index.npz", chunk_ids=self.chunk_ids, tokens=self.tokens)

    @classmethod
    def load(cls, folder, config):
        retriever, stored = cls(config), np.load(folder / "index.npz")
        retriever.build(stored["chunk_ids"], stored["tokens"])
        return retriever

"""A retriever of one's own: the neighbours that share the most different tokens with the query."""

import numpy as np

from retro_lab.retrieval.base import Retriever
from retro_lab.retrieval.search.ranking import best_of_rows


class WordOverlap(Retriever):
    def build(self, chunk_ids, tokens, embeddings=None, workspace=None):
        self.chunk_ids, self.tokens = chunk_ids, np.asarray(tokens)
        return {}

    def candidates(self, queries, k):
        shared = np.zeros((len(queries.tokens), len(self.chunk_ids)), np.float32)
        for row, query in enumerate(queries.tokens):
            for token in np.unique(query[query >= 0]):  # -1 is padding
                shared[row] += (self.tokens == token).any(axis=1)
        rows, columns = np.nonzero(shared)
        return best_of_rows(rows, self.chunk_ids[columns], shared[rows, columns], len(shared), k)

    def save(self, folder):
        np.savez(folder / "index.npz", chunk_ids=self.chunk_ids, tokens=self.tokens)

    @classmethod
    def load(cls, folder, config):
        retriever = cls(config)
        retriever.build(**np.load(folder / "index.npz"))
        return retriever

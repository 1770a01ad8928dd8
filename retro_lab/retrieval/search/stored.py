"""`retriever=stored`: the neighbours of an imported dataset, looked up.

As with other retrievers, only chunks of the database count: a neighbour in a validation document is
dropped, and the table's coverage shows how many remain.
"""

from __future__ import annotations

import numpy as np

from retro_lab.config.errors import UserError

from ..base import Neighbours, Queries
from .id_only_index import IdOnlyIndex
from .ranking import first_allowed, repeated_in_row


class StoredRetriever(IdOnlyIndex):
    """A table of neighbours of stored chunks; new text has none."""

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The first k stored neighbours of each query; the score is minus the rank.

        Raises:
            UserError: the queries are no chunks of a store with neighbours.
        """
        if queries.given is None:
            raise UserError(
                "retriever=stored only knows the neighbours of the corpus's own chunks: it can't "
                "search for other text",
                fix="use a retriever that searches, such as retriever=bm25",
            )
        ids = queries.given
        place = np.minimum(np.searchsorted(self.chunk_ids, ids), len(self.chunk_ids) - 1)
        allowed = (self.chunk_ids[place] == ids) & ~repeated_in_row(ids)
        scores = np.broadcast_to(-np.arange(ids.shape[1], dtype=np.float32), ids.shape)
        return first_allowed(Neighbours(ids, scores), allowed, k)

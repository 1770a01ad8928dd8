"""A database, its topics, and a text that is one of its documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from small_database import LETTERS, SmallDatabase, cut, in_order

from retro_lab.memory.context_reader import ContextReader
from retro_lab.memory.database_experts import SHARPNESS, DatabaseExperts
from retro_lab.memory.evidence import Text
from retro_lab.memory.topics import GrowingText, Topics, build_topics
from retro_lab.store import Workspace

CHUNK = 8
EXCLUDED = np.array([2, 6])


class World:
    """A database of documents of few words each, and a text that is one of them, changed a bit."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(5)
        documents = []
        for length in (30, 61, 50, 1, 44, 70, 50, 25):
            words = rng.choice(LETTERS, 4, replace=False)
            documents.append(rng.choice(words, length, p=[0.5, 0.3, 0.1, 0.1]).tolist())
        documents[6] = [*documents[2][:45], 1, 2, 3]
        documents[5][10:50] = documents[2][5:45]
        self.chunks = SmallDatabase(documents, CHUNK)
        self.segments, owned = cut(self.chunks, [4])
        self.entries = [in_order(self.chunks, each) for each in owned]
        build_topics(self.chunks, Workspace(folder))
        self.topics = Topics(folder)
        self.text = Text(np.array(self.chunks.full_texts[2], np.int32), EXCLUDED)

    def experts(self, topical: bool, segments: list | None = None) -> DatabaseExperts:
        reader = ContextReader(self.chunks, self.segments if segments is None else segments)
        return DatabaseExperts(reader, self.topics if topical else None)

    def cosines(self, place: int) -> NDArray[np.float64]:
        """Of the text before a token's chunk; -1 for an excluded document."""
        grown = GrowingText(self.topics, self.chunks.num_documents)
        grown.read(self.text.tokens[1 : place // CHUNK * CHUNK])
        found = grown.cosines()
        found[EXCLUDED] = -1
        return found

    def weights(self, place: int) -> NDArray[np.float32]:
        cosines = self.cosines(place)
        columns = [np.exp(kappa * (cosines - cosines.max())) for kappa in (0.0, *SHARPNESS)]
        return np.where(cosines < 0, 0, columns).T.astype(np.float32)

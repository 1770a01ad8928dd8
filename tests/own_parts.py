"""Parts outside the package, as a user would write them: a reader, an embedder, and wrong ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from retro_lab.config.schema.setting import setting
from retro_lab.retrieval.base import Retriever
from retro_lab.retrieval.embed.embedders import Embedder
from retro_lab.text.readers import Document, Reader


@dataclass
class Verses:
    path: str
    between: str = "\n\n"


class VerseReader(Reader):
    """Every verse of a file is a document."""

    def __init__(self, config: Verses) -> None:
        self.config = config

    def documents(self, malformed):
        text = Path(self.config.path).read_text(encoding="utf-8")
        for number, verse in enumerate(text.split(self.config.between), start=1):
            yield Document(f"verse {number}", verse, f"verse {number}")

    def input_digest(self):
        return {"verses": hashlib.sha256(Path(self.config.path).read_bytes()).hexdigest()}


@dataclass
class Letters:
    dim: int = setting(16, at_least=1)


class LetterEmbedder(Embedder):
    """Counts of hashed words."""

    def __init__(self, config: Letters) -> None:
        self.dim = config.dim

    def embed(self, texts):
        found = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                found[row, crc32(word.encode()) % self.dim] += 1
        return found


class Unordered(Retriever):
    """Breaks the contract: the first chunks of the database, at random scores."""

    def __init__(self, config: object) -> None:
        self.chunk_ids = np.empty(0, np.int64)

    def build(self, chunk_ids, tokens, embeddings=None, workspace=None):
        self.chunk_ids = chunk_ids
        return {}

    def candidates(self, queries, k):
        from retro_lab.retrieval.base import Neighbours

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

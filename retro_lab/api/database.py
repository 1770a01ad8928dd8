"""A searched database of texts or of any corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import orjson

from retro_lab.config.errors import UserError
from retro_lab.config.files import replacing
from retro_lab.config.schema import Config
from retro_lab.retrieval.service.served_index import Hit
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.text_search import text_search

from .composed import composed

_FOLDER = "texts"


class Database:
    """Documents cut into chunks and indexed, to be searched by text.

    Its parts are stages of the store, so the same texts with the same settings are indexed once.

    Args:
        config: of a run whose database this is.
        corpus: the overrides that name the documents.
    """

    def __init__(self, config: Config, corpus: Sequence[str]) -> None:
        self.corpus = list(corpus)
        graph = DataGraph(config, whole=True)
        self._index = text_search(graph, graph.tokenizer.data, "this database")

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], *overrides: str, ids: Iterable[str] | None = None
    ) -> Database:
        """A database of strings, a document each.

        Args:
            overrides: settings of the data as of train.py, such as "retriever=faiss_flat" or
                "chunking=m32"; bm25 and chunks of 64 tokens by default.
            ids: a distinct id for each text; by default its number, from 0.

        Raises:
            UserError: there is no text, ids are not distinct, or an override is invalid.
        """
        documents = list(texts)
        names = list(map(str, range(len(documents)) if ids is None else ids))
        if not documents or len(set(names)) != len(documents):
            raise UserError(
                f"{len(documents)} texts with {len(set(names))} distinct ids",
                fix="give at least one text, and as many distinct ids as texts",
            )
        config = composed("train", ["corpus=jsonl", "corpus.path=texts.jsonl", *overrides])
        path = _written(documents, names, Path(config.store.dir) / _FOLDER)
        return cls.from_corpus("corpus=jsonl", f"corpus.path={path}", *overrides)

    @classmethod
    def from_corpus(cls, *overrides: str) -> Database:
        """A database of all documents of a corpus.

        Args:
            overrides: of train.py: the corpus, such as "corpus=jsonl", "corpus.path=my.jsonl", and
                other settings of the data.

        Raises:
            UserError: an override is invalid, or the corpus cannot be read.
        """
        return cls(
            composed("train", overrides),
            [o for o in overrides if o.startswith(("corpus=", "corpus."))],
        )

    def __len__(self) -> int:
        """Number of searched chunks."""
        return self._index.size

    @overload
    def search(self, query: str, k: int = 5) -> list[Hit]: ...

    @overload
    def search(self, query: Sequence[str], k: int = 5) -> list[list[Hit]]: ...

    def search(self, query: str | Sequence[str], k: int = 5) -> list[Hit] | list[list[Hit]]:
        """The k chunks nearest to a text, best first; a list of them for a list of texts."""
        if isinstance(query, str):
            return self._index.search_texts([query], k)[0]
        return self._index.search_texts(list(query), k)


def _written(texts: Sequence[str], ids: Sequence[str], folder: Path) -> Path:
    """A JSON lines file of the texts, named after its content."""
    lines = [orjson.dumps({"id": n, "text": t}) for n, t in zip(ids, texts, strict=True)]
    content = b"\n".join([*lines, b""])
    path = folder / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return path.resolve()

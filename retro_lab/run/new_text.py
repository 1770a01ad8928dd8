"""Where generation's neighbours come from: the run's own search, or text given by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from retro_lab.config.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from retro_lab.config.schema import Config, RandomRetrieverConfig
    from retro_lab.nn import RetroConfig
    from retro_lab.text.tokenizers import Tokenizer

    from .run_data import Prepared


class Found(NamedTuple):
    """A neighbour that is read.

    Attributes:
        document: its document's id, or that it was given.
        score: the retriever's; None for text that was given.
        text: what the model reads of it.
    """

    document: str
    score: float | None
    text: str


class NeighbourSource(Protocol):
    """Anything that says what to read next."""

    def search(self, queries: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[list[Found]]]:
        """Neighbours of Q token rows of at most M: int64 [Q, K, R], and what they are."""
        ...


class Database:
    """The run's search: index, embedder and the text that it finds.

    Args:
        config: of a run with retrieval.
        prepared: its data; the index is built now if it was not.
        model: what is read of a neighbour.

    Raises:
        UserError: the run's retriever cannot search for new text.
    """

    def __init__(self, config: Config, prepared: Prepared, model: RetroConfig) -> None:
        from retro_lab.retrieval.embed.embedders import build_embedder
        from retro_lab.retrieval.search.registry import load_retriever

        if config.retriever.needs_texts:
            raise UserError(
                f"retriever={config.retriever.name} searches for text of the corpus only",
                fix="add retrieval=off or neighbours_text=..., or use a run with another retriever",
            )
        index = prepared.pipeline.build_index(config.retriever)
        self._open(config, prepared, model)
        self.retriever = load_retriever(config.retriever, index.path)
        needs_embeddings = config.retriever.needs_embeddings
        embedder = prepared.pipeline.config.embedder
        self.embedder = build_embedder(embedder) if needs_embeddings else None

    def _open(self, config: Config, prepared: Prepared, model: RetroConfig) -> None:
        self.config, self.chunks, self.corpus = config, prepared.chunks, prepared.corpus
        self.tokenizer, self.part = prepared.pipeline.open_tokenizer(), part_read(model)

    def search(self, queries: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[list[Found]]]:
        """Neighbours as in training, but without the filters, which need a chunk of the store.

        A query of fewer than M tokens is searched as the last chunk of a document is.
        """
        import numpy as np

        from retro_lab.retrieval.base import Queries, text_tokens
        from retro_lab.retrieval.embed.embedders import embed_queries
        from retro_lab.retrieval.filters.exclusion import search_filled

        store = self.chunks
        tokens = np.full((len(queries), store.chunk_size), store.pad_id, dtype=np.int64)
        for row, query in zip(tokens, queries, strict=True):
            row[: len(query)] = query
        embeddings = None
        if self.embedder is not None:
            texts = [self.tokenizer.decode(query) for query in queries]
            embeddings = embed_queries(self.embedder, texts)
        outside = np.full(len(queries), -1, dtype=np.int64)
        tokens = text_tokens(tokens, store.pad_id, store.boundary_id)
        asked = Queries(tokens, embeddings, document=outside, chunk_ids=outside)
        ids, scores = search_filled(self.retriever, asked, self.config.neighbours.k, store.identity)
        values = store.values(ids, self.config.chunking.continuation_chunks)
        return values, [self._found(*row) for row in zip(ids, scores, values, strict=True)]

    def _found(self, ids: np.ndarray, scores: np.ndarray, values: np.ndarray) -> list[Found]:
        return [
            Found(
                self.corpus.ids[int(self.chunks.document[chunk])],
                float(score),
                self.tokenizer.decode(value[self.part].tolist()),
            )
            for chunk, score, value in zip(ids, scores, values, strict=True)
            if chunk >= 0
        ]


class RandomChunks(Database):
    """Chunks of the database drawn by the query's own tokens: the control.

    Args:
        config: of a run with retrieval.
        prepared: its data; no index is needed.
        model: what is read of a neighbour.
        drawn: how they are drawn.
    """

    def __init__(
        self,
        config: Config,
        prepared: Prepared,
        model: RetroConfig,
        drawn: RandomRetrieverConfig,
    ) -> None:
        from retro_lab.retrieval.search.random_neighbours import RandomRetriever

        self._open(config, prepared, model)
        self.retriever = RandomRetriever(drawn)
        self.retriever.chunk_ids = self.chunks.searched

    def search(self, queries: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[list[Found]]]:
        """The same chunks for the same query, wherever it stands."""
        import zlib

        import numpy as np

        from retro_lab.retrieval.base import Queries

        drawn = [zlib.crc32(np.asarray(query, np.int64).tobytes()) for query in queries]
        ids = np.array(drawn, np.int64)
        asked = Queries(np.empty((len(ids), 0), np.int32), None, document=ids, chunk_ids=ids)
        found = self.retriever.candidates(asked, self.config.neighbours.k)
        values = self.chunks.values(found.ids, self.config.chunking.continuation_chunks)
        return values, [self._found(*row) for row in zip(*found, values, strict=True)]


class GivenNeighbours:
    """The same neighbours for every query: text that somebody typed.

    A text stands where the model reads: from the first token on, or from the continuation's first
    if that is all it reads. What is longer is cut.

    Args:
        texts: one a neighbour.
        tokenizer: the run's.
        model: lengths, and what is read of a neighbour.

    Raises:
        UserError: a text has no tokens.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, model: RetroConfig) -> None:
        import numpy as np

        part = part_read(model)
        self.tokens = np.full((len(texts), model.neighbour_length), model.pad_id, dtype=np.int64)
        self.found: list[Found] = []
        self.texts = tuple(texts)
        encoded = tokenizer.encode_batch(list(texts))
        for number, (row, (ids, _)) in enumerate(zip(self.tokens, encoded, strict=True), start=1):
            if not len(ids):
                raise UserError(f"neighbour {number} has no text", fix="neighbours_text=<text>")
            places = row[part]
            read = ids[: len(places)]
            places[: len(read)] = read
            document = f"given {number}"
            if len(read) < len(ids):
                document += f", first {len(read)} of {len(ids)} tokens"
            self.found.append(Found(document, None, tokenizer.decode(read.tolist())))

    def search(self, queries: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[list[Found]]]:
        """The given text for each query."""
        import numpy as np

        return np.stack([self.tokens] * len(queries)), [self.found] * len(queries)


def part_read(model: RetroConfig) -> slice:
    """Which of a neighbour's R tokens a model reads, by `model.value`."""
    size = model.chunk_size
    return slice(
        size if model.value == "continuation" else 0,
        size if model.value == "neighbour" else model.neighbour_length,
    )

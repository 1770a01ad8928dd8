"""The database of a run in a folder of its own, searched without the run and without the store.

    retriever = RunRetriever.from_pretrained("my-retro")
    model.retriever = retriever            # a model of retro_lab.huggingface
    retriever.search("some text", k=3)

The folder `database` below a model's holds the index, the tokens of the searched documents with
their ids, and the tokenizer.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import EmbedderConfig, RetrieverConfig
from retro_lab.config.serialise import from_plain, to_plain
from retro_lab.store import mapped
from retro_lab.text.tokenizers import load_tokenizer

from .embed.embedders import build_embedder
from .new_text import Found, NewTextSearch, ReadPart, SearchedStore
from .search.registry import load_retriever

if TYPE_CHECKING:
    from torch import Tensor

    from retro_lab.text.chunks import ChunkStore

DATABASE = "database"
_META, _DOCUMENTS = "database.json", "documents.json"
_NUMBERS = ("pad_id", "boundary_id", "chunk_size")
_VERSION = 1


@dataclass(frozen=True)
class FolderChunks:
    """The S chunks of the searched documents, by the ids that the index has for them.

    Attributes:
        chunk_ids: int64 [S], ascending, below C.
        tokens: [S, M].
        document: int32 [C], number of a chunk's document; -1 for chunks that are not here.
        pad_id, boundary_id, chunk_size: as of `ChunkStore`.
    """

    chunk_ids: NDArray[np.int64]
    tokens: NDArray[np.integer]
    document: NDArray[np.int32]
    pad_id: int
    boundary_id: int
    chunk_size: int

    @classmethod
    def open(cls, path: Path, numbers: dict[str, int]) -> FolderChunks:
        """The chunks in a folder of `write_database`; the tokens are memory-mapped."""
        ids, tokens = np.load(path / "chunk_ids.npy"), mapped(path / "tokens.npy")
        document = np.full(int(ids[-1]) + 1, -1, np.int32)
        document[ids] = np.load(path / "document.npy")
        return cls(ids, tokens, document, **numbers)

    @property
    def identity(self) -> NDArray[np.int32]:
        """The documents, since new text is none of them."""
        return self.document

    def values(self, ids: ArrayLike, continuation_chunks: int) -> NDArray[np.int64]:
        """As `ChunkStore.values`: int64 [..., R], chunks and what follows them."""
        first = np.asarray(ids, np.int64)[..., None]
        wanted = np.minimum(first + np.arange(1 + continuation_chunks), len(self.document) - 1)
        rows = np.searchsorted(self.chunk_ids, np.maximum(wanted, 0))
        values = np.asarray(self.tokens[rows], np.int64)
        follows = wanted - first == np.arange(1 + continuation_chunks)
        same = self.document[np.maximum(wanted, 0)] == self.document[np.maximum(first, 0)]
        values[~(follows & same & (first >= 0))] = self.pad_id
        return values.reshape(*first.shape[:-1], -1)


class RunRetriever:
    """Finds neighbours of tokens for a model, and of text for a person.

    Args:
        source: the opened search.
    """

    def __init__(self, source: NewTextSearch) -> None:
        self.source = source

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> RunRetriever:
        """Opens the database of an exported model; arrays are memory-mapped.

        Raises:
            UserError: the folder holds no database.
        """
        path = Path(folder) / DATABASE
        if not (path / _META).is_file():
            raise UserError(
                f"{folder} holds no database",
                fix="python -m retro_lab export run=... out=... database=true",
            )
        meta: dict[str, Any] = orjson.loads((path / _META).read_bytes())
        config: RetrieverConfig = from_plain(meta["retriever"], RetrieverConfig)
        embedder = meta["embedder"] and from_plain(meta["embedder"], EmbedderConfig)
        chunks = FolderChunks.open(path, meta["chunks"])
        documents: list[str] = orjson.loads((path / _DOCUMENTS).read_bytes())
        text = SearchedStore(chunks, documents, load_tokenizer(path / "tokenizer"))
        read = ReadPart(meta["k"], meta["continuation_chunks"], slice(*meta["part"]))
        retriever = load_retriever(config, path / "index")
        return cls(NewTextSearch(text, read, retriever, embedder and build_embedder(embedder)))

    def __call__(self, tokens: Tensor) -> Tensor:
        """Tokens of the neighbours [B, K, R] of chunks [B, M]."""
        import torch

        found, _ = self.source.search(tokens.tolist())
        return torch.from_numpy(found).to(tokens.device)

    def search(self, text: str, k: int | None = None) -> list[Found]:
        """The neighbours of a text, by its last chunk of tokens; best first.

        Args:
            k: how many; by default as many as the model reads.
        """
        source, size = self.source, self.source.text.chunks.chunk_size
        if k is not None:
            source = NewTextSearch(
                source.text, source.read._replace(k=k), source.retriever, source.embedder
            )
        [encoded] = source.text.tokenizer.encode_batch([text])
        return source.search([encoded.ids[-size:].tolist()])[1][0]


def write_database(
    folder: Path,
    source: NewTextSearch,
    chunks: ChunkStore,
    *,
    retriever: RetrieverConfig,
    embedder: EmbedderConfig | None,
    index: Path,
    tokenizer: Path,
) -> None:
    """Writes a database below the folder of a model.

    Args:
        source: the run's search, whose documents' ids and read part are kept.
        chunks: the searched store.
        retriever: of the index.
        embedder: of queries; None if none are embedded.
        index: folder of the index.
        tokenizer: folder of the run's tokenizer.
    """
    out = folder / DATABASE
    out.mkdir()
    documents = np.unique(np.asarray(chunks.document)[chunks.searched])
    ids = np.flatnonzero(np.isin(chunks.document, documents))
    np.save(out / "chunk_ids.npy", ids)
    np.save(out / "tokens.npy", np.asarray(chunks.tokens)[ids])
    np.save(out / "document.npy", np.searchsorted(documents, chunks.document[ids]).astype(np.int32))
    names = source.text.ids
    (out / _DOCUMENTS).write_bytes(orjson.dumps([names[number] for number in documents.tolist()]))
    for name, given in (("index", index), ("tokenizer", tokenizer)):
        records = shutil.ignore_patterns("manifest.json", "checksums.json")
        shutil.copytree(given, out / name, ignore=records, copy_function=shutil.copyfile)
    read = source.read
    meta = {
        "schema_version": _VERSION,
        "retriever": to_plain(retriever),
        "embedder": embedder and to_plain(embedder),
        "k": read.k,
        "continuation_chunks": read.continuation_chunks,
        "part": [read.part.start, read.part.stop],
        "chunks": {name: getattr(chunks, name) for name in _NUMBERS},
    }
    (out / _META).write_bytes(orjson.dumps(meta, option=orjson.OPT_INDENT_2))

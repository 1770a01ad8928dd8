"""The stage `database`: the run's own chunks, followed by chunks of other corpora.

Neighbours are ids in this one store, so the loader, the filters and the leakage measures need no
other. The run's own chunks come first and keep their ids; added files come last, so that other ids
stay. Chunks are copied, since gathering neighbours is the loader's inner loop.

Legend: C chunks, D documents, S chunks searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import DatabaseConfig
from retro_lab.store import Artifact, Stage, Workspace

from .chunks import ChunkStore
from .corpus import Corpus
from .database_documents import OWN, Part, identities, own_part, planted_part, taken_part

VERSION = 1
NO_SPLIT = 255
_META, _PARTS, _PLANTED = "meta.json", "parts.json", "planted.json"
_BLOCK = 2**16  # chunks a block


@dataclass(frozen=True)
class Source:
    """A corpus of a database.

    Attributes:
        name: prefix of its documents' names in results; empty for the run's own.
        chunks: chunks by the run's own tokenizer.
        corpus: its text.
    """

    name: str
    chunks: ChunkStore
    corpus: Corpus


class DatabaseStore(ChunkStore):
    """Memory-mapped view of the `database` artifact: a chunk store of several corpora.

    Chunks of other corpora and planted copies belong to no split: never trained on, never scored.

    Attributes:
        part: uint8 [C], number of the chunk's part; 0 is the run's own corpus.
        place: int64 [C], the chunk's id in its part's own store.
        document_part: uint8 [D].
        document_place: int64 [D], number of the document in its part's corpus.
        parts: name, source and text offset of each part.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.part: NDArray[np.uint8] = self._array("part")
        self.place: NDArray[np.int64] = self._array("place")
        self.document_part: NDArray[np.uint8] = self._array("document_part")
        self.document_place: NDArray[np.int64] = self._array("document_place")
        self.parts: list[dict[str, Any]] = orjson.loads((self.path / _PARTS).read_bytes())
        self._identity: NDArray[np.int32] = self._array("identity")
        self._searched: NDArray[np.int64] = self._array("searched")

    @property
    def own_chunks(self) -> int:
        return int(np.searchsorted(self.part, 1))

    @property
    def identity(self) -> NDArray[np.int32]:
        return self._identity

    @property
    def searched(self) -> NDArray[np.int64]:
        return self._searched


class DatabaseCorpus(Corpus):
    """The run's own corpus, followed by ids and text of the database's other documents.

    Args:
        store: the database's chunks.
        corpora: corpora of its sources, in order; the first is the run's own.
    """

    def __init__(self, store: DatabaseStore, corpora: Sequence[Corpus]) -> None:
        super().__init__(corpora[0].path)
        self.store, self.corpora = store, list(corpora)
        self._starts = np.array([part["text_start"] for part in store.parts], np.int64)

    def __reduce__(self) -> tuple[type[DatabaseCorpus], tuple[DatabaseStore, list[Corpus]]]:
        return type(self), (self.store, self.corpora)

    @cached_property
    def ids(self) -> list[str]:
        """Id of each document; `<part>:<id>` in other parts."""
        places = zip(self.store.document_part.tolist(), self.store.document_place, strict=True)
        return [self._id(part, int(place)) for part, place in places]

    def raw_span(self, start: int | np.integer, stop: int | np.integer) -> bytes:
        part = int(np.searchsorted(self._starts, start, "right")) - 1
        base = self._starts[part]
        return self._corpus_of(part).raw_span(start - base, stop - base)

    def _id(self, part: int, place: int) -> str:
        name = self._corpus_of(part).ids[place]
        return f"{self.store.parts[part]['name']}:{name}" if part else name

    def _corpus_of(self, part: int) -> Corpus:
        return self.corpora[self.store.parts[part]["source"]]


def database_stage(
    config: DatabaseConfig,
    own: Artifact | Stage,
    others: Mapping[str, Artifact | Stage],
    *,
    with_training: bool = False,
) -> Stage:
    """The stage of a database.

    Args:
        own: chunks of the run's corpus.
        others: chunks of the other corpora, by name, in order; added ones last.
        with_training: whether to search the training split too, beyond the configuration, to cover
            all text that could have leaked.
    """
    plants = config.planted
    fields = {
        "splits": sorted(config.splits),
        "fraction": float(config.fraction),
        "parts": list(others),
        "with_training": with_training,
        "planted": plants
        and {
            "split": plants.plant_split,
            "half": plants.plant_half.name,
            "share": float(plants.plant_share),
        },
    }
    if others:
        fields["same"] = "text or given id"  # rule for equal documents; formerly place names too
    parents = {"chunks": own, **{f"chunks {name}": stage for name, stage in others.items()}}
    return Stage("database", VERSION, fields, parents)


def build_database(
    config: DatabaseConfig,
    own: Source,
    others: Sequence[Source],
    workspace: Workspace,
    *,
    with_training: bool = False,
    added: int = 0,
) -> Mapping[str, Any]:
    """Copies the chunks of all parts into one store and marks the searched ones.

    Args:
        added: number of corpora added later, the last ones of `others`; planted copies come before
            them, so that adding changes no id.

    Returns:
        chunks and documents searched, in total and for each part; same_documents, the number of
            copies
        (see `identities`).

    Raises:
        UserError: nothing is left to search.
    """
    sources = [own, *others]
    splits = {*config.splits, "train"} if with_training else set(config.splits)
    whole = {"train"} if with_training else set()
    parts = [own_part(own.corpus, splits, config.fraction, whole)]
    parts += [
        taken_part(source.name, number, source.corpus, config.fraction)
        for number, source in enumerate(others, 1)
    ]
    plants = config.planted
    if plants is not None:
        part, record = planted_part(plants, own.corpus)
        parts.insert(len(parts) - added, part)
        (workspace.path / _PLANTED).write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
    layout = _Layout(parts, sources)
    layout.write(workspace)
    workspace.blocks(
        layout.num_chunks, _BLOCK, layout.gather, what="joining the database", unit="chunks"
    )
    return _finish(config, parts, sources, workspace)


class _Layout:
    """Positions of each part's documents and chunks in the database."""

    def __init__(self, parts: Sequence[Part], sources: Sequence[Source]) -> None:
        self.parts, self.sources = parts, sources
        self.places: list[NDArray[np.int64]] = []  # of each part, [c] chunk ids in its own store
        counts: list[NDArray[np.int64]] = []  # of each part, [d] chunks a document
        for part in parts:
            first = self._chunks(part).first_chunk
            counts.append(first[part.documents + 1] - first[part.documents])
            self.places.append(_ranges(first[part.documents], counts[-1]))
        self.first_chunk = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        self.chunk_start = np.cumsum([0, *map(len, self.places)])
        self.document_start = np.cumsum([0, *(len(part.documents) for part in parts)])
        self.text_start = np.cumsum(
            [0, *(sources[part.source].corpus.num_bytes() for part in parts)]
        )

    @property
    def num_chunks(self) -> int:
        return int(self.chunk_start[-1])

    def write(self, workspace: Workspace) -> None:
        """Writes all arrays except those of the chunks."""
        own = self.sources[0].chunks
        numbers = np.arange(len(self.parts), dtype=np.uint8)
        documents = [part.documents for part in self.parts]
        np.save(workspace.path / "first_chunk.npy", self.first_chunk.astype(np.int64))
        np.save(workspace.path / "document_part.npy", np.repeat(numbers, [*map(len, documents)]))
        np.save(workspace.path / "document_place.npy", np.concatenate(documents))
        parts = [
            {"name": part.name, "source": part.source, "text_start": int(start)}
            for part, start in zip(self.parts, self.text_start, strict=False)
        ]
        (workspace.path / _PARTS).write_bytes(orjson.dumps(parts))
        meta = {n: getattr(own, n) for n in ("vocab_size", "boundary_id", "pad_id")}
        (workspace.path / _META).write_bytes(orjson.dumps(meta))

    def gather(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """The arrays of chunks [start, stop), possibly of several parts."""
        found: list[dict[str, np.ndarray]] = []
        for number in range(len(self.parts)):
            first, end = self.chunk_start[number : number + 2]
            inside = slice(max(start, first) - first, max(min(stop, end), first) - first)
            if inside.start < inside.stop:
                found.append(self._part_rows(number, inside))
        return {name: np.concatenate([rows[name] for rows in found]) for name in found[0]}

    def _part_rows(self, number: int, inside: slice) -> dict[str, np.ndarray]:
        store, place = self._chunks(self.parts[number]), self.places[number][inside]
        ids = self.chunk_start[number] + np.arange(inside.start, inside.stop)
        document = np.searchsorted(self.first_chunk, ids, "right") - 1
        split = store.split[place] if number == 0 else np.full(len(ids), NO_SPLIT, np.uint8)
        return {
            "tokens": store.tokens[place],
            "token_bytes": store.token_bytes[place],
            "document": document.astype(np.int32),
            "index": store.index[place],
            "text_start": store.text_start[place] + self.text_start[number],
            "split": split,
            "part": np.full(len(ids), number, np.uint8),
            "place": place,
        }

    def _chunks(self, part: Part) -> ChunkStore:
        return self.sources[part.source].chunks


def _finish(
    config: DatabaseConfig, parts: Sequence[Part], sources: Sequence[Source], workspace: Workspace
) -> dict[str, Any]:
    """Writes searched.npy and identity.npy from the other arrays; returns the counts."""
    folder = workspace.path
    document, token_bytes, number = (
        np.load(folder / f"{name}.npy", mmap_mode="r")
        for name in ("document", "token_bytes", "part")
    )
    wanted = np.concatenate([part.searched for part in parts])
    ids = np.flatnonzero(wanted[document])
    has_text = np.zeros(len(ids), bool)
    size = workspace.block_size(_BLOCK)
    for start in range(0, len(ids), size):
        block = slice(start, start + size)
        has_text[block] = token_bytes[ids[block]].any(axis=1)
    ids = ids[has_text]
    if not len(ids):
        raise UserError(
            f"database={config.name}: no chunk with text is left to search in {config.in_words()}",
            fix="raise database.fraction, or search more splits or corpora",
        )
    same = identities(parts, [source.corpus for source in sources])
    np.save(folder / "searched.npy", ids.astype(np.int64))
    np.save(folder / "identity.npy", same[document].astype(np.int32))
    chunks = np.bincount(number[ids], minlength=len(parts)).tolist()
    return {
        "chunks": len(ids),
        "documents": int(wanted.sum()),
        "same_documents": int((same != np.arange(len(same))).sum()),
        "parts": {
            part.name or OWN: {"documents": int(part.searched.sum()), "chunks": count}
            for part, count in zip(parts, chunks, strict=True)
        },
    }


def planted_documents(folder: Path) -> dict[str, Any] | None:
    """The planted documents of a database artifact; None if nothing was planted.

    Returns:
        split, half, share, halves {first, second} and planted; the last two hold document ids of
            the
        run's corpus.
    """
    path = folder / _PLANTED
    return orjson.loads(path.read_bytes()) if path.is_file() else None


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenation of the ranges start, start + 1, .. of the given lengths."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())

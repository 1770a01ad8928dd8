"""Corpus `norlund`: a dataset made by the scripts of TobiasNorlund/retro, with its own chunks.

A spec is a JSON file with paths relative to its folder.

    {"shards": [{"chunks", "seq2chunk", "chunk2seq", "neighbours"}, ..],
     "neighbours": {"index_spec": a JSON list of {"chunks", ..}, the shards that were searched}}

    chunks      uint16 [C, M], T5's tokens: each document ends in its end token and is padded with 0
    seq2chunk   int64 [D], first chunk of each document
    chunk2seq   int32 [C], document of each chunk
    neighbours  int64 [C, K], chunks numbered over the shards of the index spec, -1 for none

Documents are numbered over all specs and shards. The format lacks their text, which is decoded from
the tokens, except each document's first (see `imported_chunks.py`). Tokens for text outside the
tokenizer's vocabulary have no bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import NorlundCorpusConfig

from .base import Document, Malformed
from .files import FileList, SourceFile, open_raw, source_files
from .records import FileReader

PAD = 0
_SPECS = ("**/data.spec.json",)
_ARRAYS = {"chunks": 2, "seq2chunk": 1, "chunk2seq": 1}  # and their number of dimensions
_SPACE = "\u2581"  # SentencePiece's space


@dataclass(frozen=True)
class Shard:
    """One shard, memory-mapped and checked.

    Attributes:
        name: name of its chunks file, for messages.
        chunks: uint16 [C, M].
        first: int64 [D + 1], first chunk of each document, and C.
        neighbours: int64 [C, K], as stored; None if absent.
        targets: int64 [T + 1, 2]: for each shard of the index spec, its first number there and its
            first chunk in this dataset; the last row holds the total.
        split: the split of the spec's documents, or None.
    """

    name: str
    chunks: np.ndarray
    first: NDArray[np.int64]
    neighbours: np.ndarray | None
    targets: NDArray[np.int64]
    split: str | None

    def document(self, number: int) -> NDArray[np.int64]:
        """Tokens of a document, without its end token and padding."""
        tokens = self.chunks[self.first[number] : self.first[number + 1]].reshape(-1)
        filled = np.flatnonzero(tokens != PAD)
        return tokens[: filled[-1] if len(filled) else 0].astype(np.int64)


class NorlundDataset:
    """All shards of a configuration's specs, in order.

    Attributes:
        shards: the shards.
        first_document: int64 [shards + 1], number of each shard's first document.
        first_chunk: int64 [shards + 1], number of each shard's first chunk.
        files: every opened file.
        left_out: as in `FileList`.
    """

    def __init__(self, config: NorlundCorpusConfig) -> None:
        self.files: list[SourceFile] = []
        specs, self.left_out = source_files(config, _SPECS)
        opened = [(spec, entry) for spec in specs for entry in self._entries(spec)]
        shapes = [self._open(spec, entry) for spec, entry in opened]
        self.first_document = _ends(len(first) - 1 for _, first, _ in shapes)
        self.first_chunk = _ends(len(chunks) for chunks, _, _ in shapes)
        places = [_resolved(spec, entry["chunks"]) for spec, entry in opened]
        known = {
            place: (int(start), len(chunks))
            for place, start, (chunks, _, _) in zip(places, self.first_chunk, shapes, strict=False)
        }
        targets = {spec.path: self._targets(spec, known) for spec in specs}
        self.shards = [
            Shard(entry["chunks"], *shape, targets[spec.path], spec.split)
            for (spec, entry), shape in zip(opened, shapes, strict=True)
        ]
        if len(sizes := {shard.chunks.shape[1] for shard in self.shards}) > 1:
            raise _broken(specs[0].name, f"its shards have chunks of {sorted(sizes)} tokens")

    @property
    def chunk_size(self) -> int:
        return self.shards[0].chunks.shape[1]

    def _entries(self, spec: SourceFile) -> list[dict[str, str]]:
        self.files.append(spec)
        found = _json(spec)
        shards = found.get("shards") if isinstance(found, dict) else None
        if not isinstance(shards, list) or not shards:
            raise _broken(spec.name, 'expected {"shards": [..], "neighbours": {..}}')
        for entry in shards:
            if not isinstance(entry, dict) or (missing := [k for k in _ARRAYS if k not in entry]):
                raise _broken(spec.name, f"a shard has no {missing}, expected {[*_ARRAYS]}")
            paths = [entry[name] for name in (*_ARRAYS, "neighbours") if name in entry]
            if not all(isinstance(path, str) for path in paths):
                raise _broken(spec.name, f"a shard names {paths}, expected paths")
        return shards

    def _open(
        self, spec: SourceFile, entry: dict[str, str]
    ) -> tuple[np.ndarray, NDArray[np.int64], np.ndarray | None]:
        """Chunks, first chunk of each document, and neighbours."""
        chunks, starts, owners = (
            self._array(spec, entry[name], dimensions) for name, dimensions in _ARRAYS.items()
        )
        first = np.append(starts, len(chunks)).astype(np.int64)
        numbers = np.arange(len(starts))
        if not len(starts) or first[0] != 0 or (np.diff(first) < 1).any():
            raise _broken(entry["seq2chunk"], "expected ascending chunk numbers from 0")
        whole = len(owners) == len(chunks)
        if not whole or any(
            (owners[ends] != numbers).any() for ends in (first[:-1], first[1:] - 1)
        ):
            raise _broken(entry["chunk2seq"], f"doesn't go with {entry['seq2chunk']}")
        neighbours = None
        if "neighbours" in entry:
            neighbours = self._array(spec, entry["neighbours"], 2)
            if len(neighbours) != len(chunks):
                counts = f"{len(neighbours):,} rows for {len(chunks):,} chunks"
                raise _broken(entry["neighbours"], counts)
        return chunks, first, neighbours

    def _array(self, spec: SourceFile, name: str, dimensions: int) -> np.ndarray:
        file = self._file(spec, name)
        try:
            array = np.load(file.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _broken(name, f"can't be read: {error}") from error
        if array.ndim != dimensions or array.dtype.kind not in "iu":
            shape = f"{array.dtype} with {array.ndim} dimensions"
            raise _broken(name, f"holds {shape}, expected whole numbers with {dimensions}")
        return array

    def _file(self, spec: SourceFile, name: str) -> SourceFile:
        prefix = spec.name.rpartition("/")[0]
        file = SourceFile(f"{prefix}/{name}".lstrip("/"), _resolved(spec, name), None)
        if file not in self.files:
            self.files.append(file)
        return file

    def _targets(self, spec: SourceFile, known: dict[Path, tuple[int, int]]) -> NDArray[np.int64]:
        """`Shard.targets` of a spec's shards; empty without an index spec."""
        found = _json(spec).get("neighbours") or {}
        name = found.get("index_spec") if isinstance(found, dict) else found
        if name is None:
            return np.zeros((1, 2), np.int64)
        if not isinstance(name, str):
            raise _broken(spec.name, 'expected "neighbours": {"index_spec": <path>}')
        index = self._file(spec, name)
        entries = _json(index)
        if not isinstance(entries, list) or not all(map(_names_chunks, entries)):
            raise _broken(name, 'expected a list of {"chunks": <path>}')
        rows, count = [], 0
        for entry in entries:
            place = _resolved(index, entry["chunks"])
            if place not in known:
                raise UserError(
                    f"{name}: its neighbours lie in {entry['chunks']} too, which is in none of the "
                    "specs given",
                    fix="list that shard in the spec of corpus.path",
                )
            start, size = known[place]
            rows.append((count, start))
            count += size
        return np.array([*rows, (count, 0)], np.int64)


class NorlundReader(FileReader):
    """One document a sequence, decoded from its tokens and named by its number."""

    def __init__(self, config: NorlundCorpusConfig) -> None:
        self._dataset = NorlundDataset(config)
        super().__init__(FileList(self._dataset.files, self._dataset.left_out))
        self._config = config

    @property
    def fields(self) -> dict[str, str]:
        return {"tokenizer": pieces_digest(self._config)}

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        pieces = np.array(token_pieces(self._config), object)
        number = 0
        for shard in self._dataset.shards:
            for i in range(len(shard.first) - 1):
                tokens = shard.document(i)
                require_known(tokens, len(pieces), shard.name)
                text = "".join(pieces[tokens[1:]])
                place = f"{shard.name}, sequence {i}"
                yield Document(str(number), text, place, shard.split)
                number += 1


def require_known(tokens: NDArray[np.integer], count: int, name: str) -> None:
    """Raises UserError for a token outside the tokenizer's vocabulary."""
    low, most = int(tokens.min(initial=0)), int(tokens.max(initial=0))
    if low < 0 or most >= count:
        wrong = low if low < 0 else most
        raise _broken(name, f"holds the token {wrong}, but corpus.tokenizer has {count} tokens")


def _names_chunks(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("chunks"), str)


def unknown_token(config: NorlundCorpusConfig) -> int:
    """The tokenizer's unknown token."""
    return _definition(str(config.tokenizer))["model"].get("unk_id") or 0


@lru_cache(maxsize=1)
def _definition(path: str) -> dict[str, Any]:
    from ..tokenizers.huggingface import load_source

    found = orjson.loads(load_source(path).definition)
    if b'"Metaspace"' not in orjson.dumps(found["decoder"]):
        raise UserError(
            f"corpus.tokenizer={path}: isn't a SentencePiece tokenizer, as the dataset's is",
            fix="tokenizer=hf tokenizer.path=t5-base, or a local folder of it",
        )
    return found


@lru_cache(maxsize=1)
def _pieces(path: str) -> tuple[str, ...]:
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(orjson.dumps(_definition(path)).decode())
    special = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    vocabulary = backend.get_vocab(with_added_tokens=True)
    found = [""] * (max(vocabulary.values()) + 1)
    for piece, number in vocabulary.items():
        found[number] = "" if number in special else piece.replace(_SPACE, " ")
    return tuple(found)


def token_pieces(config: NorlundCorpusConfig) -> tuple[str, ...]:
    """Text of each token; empty for special tokens.

    Raises:
        UserError: the tokenizer can't be loaded or is no SentencePiece tokenizer.
    """
    assert config.tokenizer is not None
    return _pieces(config.tokenizer)


def pieces_digest(config: NorlundCorpusConfig) -> str:
    """SHA-256 of the token texts."""
    return hashlib.sha256(orjson.dumps(token_pieces(config))).hexdigest()


def _ends(counts: Iterator[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *counts]).astype(np.int64)


def _resolved(spec: SourceFile, name: str) -> Path:
    return (spec.path.parent / name).resolve()


def _json(file: SourceFile) -> Any:
    with open_raw(file) as raw:
        try:
            return orjson.loads(raw.read())
        except orjson.JSONDecodeError as error:
            raise _broken(file.name, f"not valid JSON: {error}") from error


def _broken(name: str, problem: str) -> UserError:
    return UserError(
        f"{name}: {problem}",
        fix="check that the dataset was copied completely, or make that file again",
    )

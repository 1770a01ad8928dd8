"""The stage `corpus`: all documents concatenated in one file, with ids and splits."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.parts import own_fields
from retro_lab.config.schema import CorpusConfig
from retro_lab.store import Stage, Workspace, counted, track

from .readers import Document, Malformed, build_reader, read_documents
from .splits import SPLITS, assign_splits, id_list_digests, id_lists

__all__ = ["SPLITS", "Corpus", "build_corpus", "corpus_in_words", "corpus_stage"]

LOG = logging.getLogger("retro_lab")
VERSION = 1
_FULL = 0.9  # share of corpus.max_bytes after which a document that doesn't fit ends the draw
_NAMED = 3
_NAMED_FILES, _RECORDED_FILES = 10, 100
_TEXT, _OFFSETS, _SPLIT, _IDS = "text.bin", "offsets.npy", "split.npy", "ids.json"


class Corpus:
    """Memory-mapped view of a corpus: D documents, their raw UTF-8 text concatenated.

    Attributes:
        path: folder of the artifact.
        offsets: int64 [D + 1]; document i is bytes offsets[i]:offsets[i + 1] of the text.
        split: uint8 [D], index in `SPLITS`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.offsets: NDArray[np.int64] = np.load(self.path / _OFFSETS, allow_pickle=False)
        self.split: NDArray[np.uint8] = np.load(self.path / _SPLIT, allow_pickle=False)
        self._text = np.memmap(self.path / _TEXT, np.uint8, mode="r").view(np.ndarray)

    @classmethod
    def open(cls, path: Path) -> Corpus:
        """The corpus in an artifact's folder."""
        return cls(path)

    def __reduce__(self) -> tuple[type[Corpus], tuple[Path]]:
        return type(self), (self.path,)  # other processes map the files themselves

    @property
    def num_documents(self) -> int:
        """Number of documents, D."""
        return len(self.split)

    @cached_property
    def ids(self) -> list[str]:
        """Id of each document."""
        return orjson.loads((self.path / _IDS).read_bytes())

    def raw(self, document: int) -> bytes:
        """UTF-8 bytes of a document."""
        return self.raw_span(self.offsets[document], self.offsets[document + 1])

    def raw_span(self, start: int | np.integer, stop: int | np.integer) -> bytes:
        """Bytes [start, stop) of the text, over all documents."""
        return self._text[start:stop].tobytes()

    def text(self, document: int) -> str:
        """Text of a document."""
        return self.raw(document).decode()

    def documents_of(self, split: str) -> NDArray[np.int64]:
        """Numbers of a split's documents, ascending."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def num_bytes(self, split: str | None = None) -> int:
        """UTF-8 bytes of a split's text, by default of all."""
        lengths = np.diff(self.offsets)
        return int(lengths.sum() if split is None else lengths[self.documents_of(split)].sum())


def corpus_stage(config: CorpusConfig, *, whole: bool = False) -> Stage:
    """The stage of a corpus; reads the raw inputs once for their digests.

    Args:
        whole: whether all documents count as training documents, as in a corpus that is only
            searched.

    Raises:
        UserError: an input is missing.
    """
    reader = build_reader(config)
    split: dict[str, Any] | None = asdict(config.split)
    for name in SPLITS:
        del split[f"{name}_ids"]  # the files' contents are inputs
    if id_lists(config.split):
        split = {}
    if whole:
        split = None
    return Stage(
        name="corpus",
        version=VERSION,
        fields={
            "kind": type(config).__name__.removesuffix("CorpusConfig").lower(),
            "max_bytes": config.max_bytes,
            "on_error": config.on_error.value,
            "split": split,
            **own_fields(config),
            **reader.fields,
        },
        parents={},
        inputs=reader.input_digest() | id_list_digests(config.split),
    )


def build_corpus(
    config: CorpusConfig, workspace: Workspace, *, whole: bool = False
) -> Mapping[str, Any]:
    """Reads a corpus, limits its size, assigns splits and writes it; memory holds only the ids.

    With `corpus.max_bytes` the input is read twice: for the sizes, then for the kept documents.

    Args:
        whole: as for `corpus_stage`.

    Returns:
        documents, bytes, splits {documents, bytes each}, skipped {empty, malformed,
            over_max_bytes},
        and files {read, left_out, reasons by name for the first hundred left out}.

    Raises:
        UserError: the input is broken or empty, repeats an id, or is too small for its splits.
    """
    files = _files(config)
    malformed = Malformed(config.on_error)
    text = workspace.path / _TEXT
    if config.max_bytes is None:
        with text.open("wb") as out:
            ledger = _read(config, malformed, out)
        kept = np.ones(len(ledger.ids), bool)
    else:
        ledger = _read(config, malformed, None)
        kept = _within(config.max_bytes, ledger)
        with text.open("wb") as out:
            _write_kept(config, kept, out)

    rows = np.flatnonzero(kept)
    ids = [ledger.ids[row] for row in rows]
    given = [ledger.given[row] for row in rows]
    if whole:
        splits = np.zeros(len(ids), np.uint8)
    else:
        splits = assign_splits(ids, given, config.split, known=ledger.known)
    lengths = np.frombuffer(ledger.sizes, np.int64)[rows]
    np.save(workspace.path / _OFFSETS, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(workspace.path / _SPLIT, splits)
    (workspace.path / _IDS).write_bytes(orjson.dumps(ids))
    skipped = {
        "empty": ledger.empty,
        "malformed": malformed.count,
        "over_max_bytes": len(ledger.ids) - len(ids),
    }
    stats = _stats(splits, lengths) | {"skipped": skipped, "files": files}
    level = logging.WARNING if malformed.count else logging.INFO
    LOG.log(level, "the corpus has %s", corpus_in_words(stats))
    return stats


def corpus_in_words(stats: Mapping[str, Any]) -> str:
    """The counts of `build_corpus` in a line."""
    skipped = stats["skipped"]
    left_out = {
        "malformed": skipped["malformed"],
        "empty": skipped["empty"],
        "beyond corpus.max_bytes": skipped["over_max_bytes"],
        "of the files found": stats.get("files", {}).get("left_out", 0),  # absent in old manifests
    }
    named = [f"{count:,} {what}" for what, count in left_out.items() if count]
    counts = {split: stats["splits"][split]["documents"] for split in SPLITS}
    dealt = [f"{count:,} {split}" for split, count in counts.items() if count]
    splits = f" ({', '.join(dealt)})" if len(dealt) > 1 else ""
    return (
        f"{counted(stats['documents'], 'documents')}{splits}, {stats['bytes']:,} bytes; "
        f"left out: {', '.join(named) or 'nothing'}"
    )


def _files(config: CorpusConfig) -> dict[str, Any]:
    """Logs the files read and left out; returns their counts and reasons."""
    read, left_out = build_reader(config).files
    if read:
        LOG.info("the corpus is read from %s", _listed([file.name for file in read]))
    if left_out:
        named = [f"{name} ({reason})" for name, reason in left_out.items()]
        LOG.warning("left out of the corpus: %s", _listed(named))
    reasons = dict(islice(left_out.items(), _RECORDED_FILES))
    return {"read": len(read), "left_out": len(left_out), "reasons": reasons}


def _listed(names: list[str]) -> str:
    """`3 files: a, b, c`; only the first ten of many."""
    count = "1 file" if len(names) == 1 else f"{len(names):,} files"
    more = f", and {len(names) - _NAMED_FILES:,} more" if len(names) > _NAMED_FILES else ""
    return f"{count}: {', '.join(names[:_NAMED_FILES])}{more}"


class _Ledger:
    """Ids, given splits and sizes of the documents read so far; empty documents have no row."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.given: list[str | None] = []
        self.sizes = array("q")  # UTF-8 bytes
        self.known: set[str] = set()  # all ids, including those of empty documents
        self.empty = 0

    def add(self, document: Document, num_bytes: int) -> None:
        self.known.add(document.id)
        if not num_bytes:
            self.empty += 1
            return
        self.ids.append(document.id)
        self.given.append(document.split)
        self.sizes.append(num_bytes)


def _read(config: CorpusConfig, malformed: Malformed, out: BinaryIO | None) -> _Ledger:
    """Reads every document into a ledger; writes the texts to `out` if given."""
    ledger = _Ledger()
    with track(None, "reading the corpus", "documents") as advance:
        for document in read_documents(config, malformed):
            if document.id in ledger.known:
                raise _repeated(config, document)
            data = document.text.encode()
            ledger.add(document, len(data))
            if out is not None:
                out.write(data)
            advance(1)
    if not ledger.ids:
        raise _nothing(ledger, malformed)
    return ledger


def _write_kept(config: CorpusConfig, kept: NDArray[np.bool_], out: BinaryIO) -> None:
    with track(int(kept.sum()), "writing the corpus", "documents") as advance:
        for document, keep in zip(_not_empty(config), kept, strict=True):
            if keep:
                out.write(document.text.encode())
                advance(1)


def _not_empty(config: CorpusConfig) -> Iterator[Document]:
    """The documents again, without reporting malformed records twice."""
    for document in read_documents(config, _Silent(config.on_error)):
        if document.text:
            yield document


class _Silent(Malformed):
    def skip(self, place: str, problem: str) -> None:
        pass


def _within(max_bytes: int, ledger: _Ledger) -> NDArray[np.bool_]:
    """Mask of the documents to keep: drawn in the order of their ids' hashes until one doesn't fit.

    Until `_FULL` of the bytes are drawn, a document that doesn't fit is skipped and logged.
    """
    hashes = [hashlib.sha256(name.encode()).digest() for name in ledger.ids]
    kept = np.zeros(len(hashes), bool)
    total, passed_over = 0, []
    for row in sorted(range(len(hashes)), key=hashes.__getitem__):
        if total + ledger.sizes[row] <= max_bytes:
            kept[row] = True
            total += ledger.sizes[row]
        elif total >= _FULL * max_bytes:
            break
        else:
            passed_over.append(row)
    if not kept.any():
        raise UserError(
            f"corpus.max_bytes={max_bytes}: every document is larger; the smallest has "
            f"{min(ledger.sizes)} bytes",
            fix="raise corpus.max_bytes",
        )
    if passed_over:
        _tell_passed_over(max_bytes, ledger, passed_over)
    return kept


def _tell_passed_over(max_bytes: int, ledger: _Ledger, rows: list[int]) -> None:
    named = ", ".join(f"{ledger.ids[r]!r} ({ledger.sizes[r]:,} bytes)" for r in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else ""
    LOG.warning(
        "corpus.max_bytes=%d passes over what is larger than the bytes left: %s%s",
        max_bytes,
        named,
        more,
    )


def _repeated(config: CorpusConfig, document: Document) -> UserError:
    """The error for a repeated id; reads the corpus again to find its first place."""
    again = read_documents(config, _Silent(config.on_error))
    first = next(other.place for other in again if other.id == document.id)
    return UserError(
        f"two documents have the id {document.id!r}: {first}, and {document.place}",
        fix="make ids unique, name another field with corpus.id_field=..., or number the documents "
        "with corpus.id_field=null",
    )


def _nothing(ledger: _Ledger, malformed: Malformed) -> UserError:
    counts = f"{ledger.empty} empty and {malformed.count} malformed records"
    first = f", the first: {malformed.first}" if malformed.first else ""
    return UserError(
        f"the corpus has no text: {counts} were skipped{first}",
        fix="check corpus.path and the fields that hold text and id",
    )


def _stats(splits: NDArray[np.uint8], lengths: NDArray[np.int64]) -> dict[str, Any]:
    def part(mask: NDArray[np.bool_]) -> dict[str, int]:
        return {"documents": int(mask.sum()), "bytes": int(lengths[mask].sum())}

    by_split = {split: part(splits == code) for code, split in enumerate(SPLITS)}
    return part(np.ones(len(splits), bool)) | {"splits": by_split}

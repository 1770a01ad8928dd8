"""Scores of tokens, and the files that hold them.

A file has a row for each token, in the order of the text: Parquet, or JSON lines (also compressed).
Columns: `document` (id in the scored text; or its place there, from 0), then the token's bytes as
`start` and `stop` (byte offsets in the document), as `bytes` (a count) or as `token` (the token's
text), and `nats` or `logprob` (natural logarithm). `token_id` is optional.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.evaluation.records.parquet import read_columns
from retro_lab.text.readers.files import SourceFile, json_objects, lines
from retro_lab.text.readers.left_out import uncompressed

from .texts import Text

_ALIASES = {"document_id": "document"}
_FIX = "docs/audit.md lists the columns of a scores file"


class TokenScores(NamedTuple):
    """The scored tokens of a document, T of them.

    Attributes:
        start: int64 [T], byte offset of each token's first byte in the document.
        stop: int64 [T], offset behind its last byte.
        nats: float64 [T], negative log-probabilities.
        ids: int64 [T] token ids; None if they are not known.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    nats: NDArray[np.float64]
    ids: NDArray[np.int64] | None = None


NOTHING = TokenScores(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class Scores:
    """The scores of a text.

    Attributes:
        documents: one for each document of the text, in its order.
        unknown: rows of documents that the text does not have.
        misnamed: rows whose `token` is not what stands at this place of the text.
    """

    documents: Sequence[TokenScores]
    unknown: int = 0
    misnamed: int = 0

    @property
    def nats(self) -> float:
        """Their sum over all documents of the text."""
        return float(sum(each.nats.sum() for each in self.documents))


def read_scores(path: Path, texts: Sequence[Text]) -> Scores:
    """The scores in a file, arranged by the documents of the text.

    Raises:
        UserError: the file can't be read, or lacks a column.
    """
    table = _table(path)
    names = map(str, table.column_names)
    columns = {_ALIASES.get(name, name): table[name] for name in names}
    if "document" not in columns:
        raise UserError(f"scores={path} has no column document", fix=_FIX)
    number = _numbers(columns["document"].to_pylist(), texts)
    nats = _nats(columns, path)
    ids = _numeric(columns["token_id"], np.int64, path) if "token_id" in columns else None
    tokens = _tokens(columns)
    start, stop = _spans(columns, tokens, number, path)
    order = np.argsort(number, kind="stable")
    order = order[number[order] >= 0]
    ends = np.searchsorted(number[order], np.arange(1, len(texts)))
    documents = [
        TokenScores(start[rows], stop[rows], nats[rows], None if ids is None else ids[rows])
        for rows in np.split(order, ends)
    ]
    misnamed = 0
    if tokens is not None:
        for row in order.tolist():
            own = texts[int(number[row])].raw[int(start[row]) : int(stop[row])]
            misnamed += own != tokens[row]
    return Scores(documents, int((number < 0).sum()), misnamed)


def _table(path: Path) -> pa.Table:
    if not path.is_file():
        raise UserError(f"scores={path} does not exist", fix="scores=FILE, .parquet or .jsonl")
    if path.suffix == ".parquet":
        return read_columns(path, [], _FIX)
    if uncompressed(PurePath(path.name)).suffix not in (".jsonl", ".ndjson"):
        raise UserError(f"scores={path} is neither .parquet nor .jsonl", fix=_FIX)
    rows = json_objects(lines(SourceFile(path.name, path, None)), str(path), _FIX)
    try:
        return pa.Table.from_pylist([record for _, record in rows])
    except pa.ArrowException as error:
        raise UserError(f"scores={path}: a column mixes types: {error}", fix=_FIX) from error


def _numbers(names: Iterable[Any], texts: Sequence[Text]) -> NDArray[np.int64]:
    """[T] number of each row's document in the text; -1 if it has none of this name."""
    known = {text.id: number for number, text in enumerate(texts)}
    found = [str(name) for name in names]
    if not any(name in known for name in set(found)):
        known = {str(number): number for number in range(len(texts))}
    return np.array([known.get(name, -1) for name in found], np.int64)


def _nats(columns: dict[str, pa.ChunkedArray], path: Path) -> NDArray[np.float64]:
    if ("nats" in columns) == ("logprob" in columns):
        raise UserError(f"scores={path} needs one of the columns nats and logprob", fix=_FIX)
    name = "nats" if "nats" in columns else "logprob"
    nats = _numeric(columns[name], np.float64, path)
    if np.isnan(nats).any():
        row = int(np.flatnonzero(np.isnan(nats))[0]) + 1
        raise UserError(f"scores={path}, row {row}: {name} is no number", fix=_FIX)
    return nats if name == "nats" else -nats


def _tokens(columns: dict[str, pa.ChunkedArray]) -> list[bytes] | None:
    """The text of each token in UTF-8."""
    if "token" not in columns:
        return None
    return [str(piece).encode() for piece in columns["token"].to_pylist()]


def _spans(
    columns: dict[str, pa.ChunkedArray],
    tokens: list[bytes] | None,
    number: NDArray[np.int64],
    path: Path,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and stop of each token; those of a document follow each other if sizes are given."""
    if {"start", "stop"} <= columns.keys():
        start, stop = (_numeric(columns[name], np.int64, path) for name in ("start", "stop"))
        return start, stop
    if "bytes" in columns:
        sizes = _numeric(columns["bytes"], np.int64, path)
    elif tokens is not None:
        sizes = np.array([len(piece) for piece in tokens], np.int64)
    else:
        raise UserError(
            f"scores={path} does not say which bytes a token has",
            fix="add the columns start and stop, or bytes, or token",
        )
    order = np.argsort(number, kind="stable")
    after = np.cumsum(sizes[order])
    first = np.flatnonzero(np.diff(number[order], prepend=-2))
    before = (after - sizes[order])[first]
    stop = np.empty_like(sizes)
    stop[order] = after - np.repeat(before, np.diff(first, append=len(order)))
    return stop - sizes, stop


def _numeric(column: pa.ChunkedArray, kind: type, path: Path) -> NDArray:
    try:
        values = column.to_numpy()
        return np.asarray(values, kind)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(f"scores={path}: a column holds no numbers: {error}", fix=_FIX) from error

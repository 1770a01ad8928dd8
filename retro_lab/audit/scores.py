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
    columns = {_ALIASES.get(name, name): table[name] for name in table.column_names}
    if "document" not in columns:
        raise UserError(f"scores={path} has no column document", fix=_FIX)
    number = _numbers(columns["document"].to_pylist(), texts)
    nats = _nats(columns, path)
    order = np.argsort(number, kind="stable")
    order = order[number[order] >= 0]
    ids = _numeric(columns["token_id"], np.int64, path) if "token_id" in columns else None
    token = (
        [str(piece).encode() for piece in columns["token"].to_pylist()]
        if "token" in columns
        else None
    )
    spans = _spans(columns, token, path)
    documents, misnamed = [], 0
    for which in np.split(order, np.searchsorted(number[order], np.arange(1, len(texts)))):
        start, stop = (
            (column[which] for column in spans) if len(spans) == 2 else _laid(spans[0][which])
        )
        documents.append(TokenScores(start, stop, nats[which], None if ids is None else ids[which]))
        if token is not None and len(which):
            raw = texts[number[which[0]]].raw
            misnamed += sum(
                raw[a:b] != token[row]
                for a, b, row in zip(start.tolist(), stop.tolist(), which.tolist(), strict=True)
            )
    return Scores(documents, int((number < 0).sum()), misnamed)


def _table(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return read_columns(path, [], _FIX)
    if not path.is_file():
        raise UserError(f"scores={path} does not exist", fix="scores=FILE, .parquet or .jsonl")
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


def _spans(
    columns: dict[str, pa.ChunkedArray], token: list[bytes] | None, path: Path
) -> list[NDArray[np.int64]]:
    """Start and stop of each token, or the number of its bytes alone."""
    if {"start", "stop"} <= columns.keys():
        return [_numeric(columns[name], np.int64, path) for name in ("start", "stop")]
    if "bytes" in columns:
        return [_numeric(columns["bytes"], np.int64, path)]
    if token is not None:
        return [np.array([len(piece) for piece in token], np.int64)]
    raise UserError(
        f"scores={path} does not say which bytes a token has",
        fix="add the columns start and stop, or bytes, or token",
    )


def _laid(num_bytes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and stop of tokens that follow each other from byte 0."""
    stop = np.cumsum(num_bytes)
    return stop - num_bytes, stop


def _numeric(column: pa.ChunkedArray, kind: type, path: Path) -> NDArray:
    try:
        values = column.to_numpy()
        return np.asarray(values, kind)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(f"scores={path}: a column holds no numbers: {error}", fix=_FIX) from error

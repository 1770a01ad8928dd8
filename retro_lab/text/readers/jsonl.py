"""Corpus `jsonl`: JSON lines or a JSON array, plain or compressed."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import orjson

from retro_lab.config.schema import JsonlCorpusConfig, OnError

from .base import Document, Fields, Malformed, MalformedRecord, Unreadable, decode_utf8
from .files import SourceFile, digests, lines, source_files

_SUFFIXES = ("jsonl", "ndjson")
_PACKED = ("", ".gz", ".zst", ".xz", ".bz2")
_PATTERNS = [f"**/*.{suffix}{packed}" for suffix in _SUFFIXES for packed in _PACKED]


class JsonlReader:
    """One document a line; a line without an id is named `<file name>:<line>`.

    Blank lines are skipped; only a line feed ends a line. A file that holds one JSON array is read
    whole, and its items are numbered instead of lines. In a truncated compressed file the lines
    before the cut are documents if malformed records are skipped.
    """

    def __init__(self, config: JsonlCorpusConfig) -> None:
        self.files = source_files(config, _PATTERNS)
        self._fields = Fields(config.text_field, config.id_field)

    @property
    def fields(self) -> dict[str, str]:
        return self._fields.settings()

    def input_digest(self) -> dict[str, str]:
        return digests(self.files.read)

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        for file in self.files.read:
            try:
                yield from self._of_file(file, malformed)
            except Unreadable as error:
                if malformed.on_error is OnError.stop:
                    raise
                malformed.skip(error.place, error.problem)

    def _of_file(self, file: SourceFile, malformed: Malformed) -> Iterator[Document]:
        unit, records = _records(lines(file))
        for number, record in records:
            place = f"{file.name}, {unit} {number}"
            try:
                yield self._document(record, f"{file.name}:{number}", place, file)
            except MalformedRecord as error:
                malformed.report(place, error.problem, error.fix)

    def _document(self, record: Any, default_id: str, place: str, file: SourceFile) -> Document:
        if isinstance(record, bytes):
            record = _parse(record)
        if not isinstance(record, dict):
            raise MalformedRecord("expected a JSON object with fields")
        return self._fields.document(record, default_id, place, file.split)


def _records(rows: Iterator[bytes]) -> tuple[str, Iterator[tuple[int, Any]]]:
    """The word for a record, "line" or "item", and the numbered lines or array items."""
    first = next(rows, b"")
    if first.lstrip().startswith(b"["):
        held = [first, *rows]
        try:
            array = orjson.loads(b"".join(held))
        except orjson.JSONDecodeError:
            rows = iter(held)  # JSON lines whose first line is no object
        else:
            return "item", enumerate(array, 1)
    else:
        rows = itertools.chain([first], rows)
    return "line", ((n, line) for n, line in enumerate(rows, 1) if line.strip())


def _parse(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if b"NaN" in line or b"Infinity" in line:  # invalid, yet written by Python
            with contextlib.suppress(ValueError, RecursionError):
                return _encodable(json.loads(line))
        try:
            decode_utf8(line)
        except ValueError as wrong:
            raise MalformedRecord(str(wrong)) from error
        if line.strip() in (b"[", b"{"):
            raise MalformedRecord(
                "a JSON value over several lines, expected an object a line",
                fix="convert the file, as `jq -c '.[]' FILE.json > FILE.jsonl` does with an array",
            ) from error
        if line.rstrip().endswith(b"},"):
            raise MalformedRecord(
                "a comma behind the object, expected an object a line and no more",
                fix="take the commas away: sed 's/,$//' FILE > NEW",
            ) from error
        if b"}\r{" in line:
            raise MalformedRecord(
                "lines end in carriage returns, expected line feeds",
                fix=r"convert the file: tr '\r' '\n' < FILE > NEW",
            ) from error
        raise MalformedRecord(f"not valid JSON: {error.msg} at column {error.colno}") from error


def _encodable(record: Any) -> Any:
    """The record; raises UnicodeEncodeError, a ValueError, if its text has a lone surrogate."""
    json.dumps(record, ensure_ascii=False).encode()
    return record

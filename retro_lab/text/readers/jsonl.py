"""Corpora `jsonl` and `json`: JSON lines or a JSON array, plain or compressed."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson

from .base import MalformedRecord, Unreadable, decode_utf8
from .files import SourceFile, lines, with_suffixes
from .recognise import text_format
from .records import Record, RecordReader

MOST_ARRAY_BYTES = 2**30
"""Size of the largest JSON array, which is read whole and then takes several times its size."""

_HEAD_LINES = 8  # read to recognise another format


class JsonlReader(RecordReader):
    """One document a line; a line without an id is named `<file name>:<line>`.

    Blank lines are skipped; only a line feed ends a line. A file that holds one JSON array is read
    whole, and its items are numbered instead of lines. In a truncated compressed file the lines
    before the cut are documents if malformed records are skipped.
    """

    globs = with_suffixes("jsonl", "ndjson")

    def _records(self, file: SourceFile) -> Iterator[Record]:
        unit, records = json_records(file.name, self._recognised(file))
        for number, record in records:
            yield Record(unit, number, partial(_values, record))

    def _recognised(self, file: SourceFile) -> Iterator[bytes]:
        """The file's lines; raises Unreadable if they are text of another format."""
        rows = lines(file)
        first = next(rows, b"")
        if first.lstrip()[:1] in (b"", b"{", b"["):
            return itertools.chain([first], rows)
        head = [first, *itertools.islice(rows, _HEAD_LINES - 1)]
        found = text_format(file.name, head, self._fields.text)
        if found is not None:
            raise Unreadable(file.name, f"is {found.name}, expected JSON lines", found.fix)
        return itertools.chain(head, rows)


class JsonReader(JsonlReader):
    """As `JsonlReader`, for files that are usually one array."""

    globs = with_suffixes("json")


def json_records(
    name: str, rows: Iterator[bytes], most_bytes: int = MOST_ARRAY_BYTES
) -> tuple[str, Iterator[tuple[int, Any]]]:
    """The word for a record, "line" or "item", and the numbered lines or array items.

    Args:
        name: the file's name.
        rows: its lines.
        most_bytes: size of the largest array.

    Raises:
        Unreadable: an array is larger.
    """
    first = next(rows, b"")
    held, rows = [first], itertools.chain([first], rows)
    if first.lstrip().startswith(b"["):
        held = list(_up_to(most_bytes, rows))
        rest = next(rows, None)
        rows = itertools.chain(held, [] if rest is None else [rest], rows)
        try:
            array = orjson.loads(b"".join(held) if rest is None else first)
        except orjson.JSONDecodeError as error:
            if rest is not None:
                raise Unreadable(
                    name,
                    f"is a JSON array, which is read whole, of over {most_bytes / 2**30:.3g} GiB",
                    "corpus=jsonl, after jq -c '.[]' FILE.json > FILE.jsonl",
                ) from error  # otherwise JSON lines whose first line is no object
        else:
            if rest is None:
                return "item", enumerate(array, 1)
    return "line", ((n, line) for n, line in enumerate(rows, 1) if line.strip())


def _up_to(most_bytes: int, rows: Iterator[bytes]) -> Iterator[bytes]:
    """Lines until their size reaches `most_bytes`."""
    size = 0
    while size < most_bytes and (row := next(rows, None)) is not None:
        size += len(row)
        yield row


def _values(record: Any) -> dict[str, Any]:
    """The fields of a line or an array's item."""
    if isinstance(record, bytes):
        record = _parse(record)
    if not isinstance(record, dict):
        raise MalformedRecord("expected a JSON object with fields")
    return record


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

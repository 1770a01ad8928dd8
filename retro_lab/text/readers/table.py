"""Corpus `csv`: delimited text, one document a row below the header."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from retro_lab.config.errors import UserError

from .base import MalformedRecord, Unreadable
from .files import SourceFile, lines, with_suffixes
from .recognise import delimiter, text_field_fix, text_format
from .records import Record, RecordReader

_LARGEST_FIELD = 2**31 - 1  # the limit of Python's csv on every platform
_SURROGATE = 0xDC00  # an undecodable byte is read as this plus the byte
_DOUBLED = 'double each quotation mark inside a quoted field: ""'
# Python's messages by a part of them: what is wrong, and what to do.
_PROBLEMS = {
    "unexpected end": ("a quoted field that is never closed takes in all that follows", _DOUBLED),
    "expected after": ("text goes on behind a closing quotation mark", _DOUBLED),
    "new-line": (
        "lines end in carriage returns, expected line feeds",
        r"convert the file: tr '\r' '\n' < FILE > NEW",
    ),
    "field limit": ("a field of 2 GiB or more", "split it into several documents"),
}


class _Row(NamedTuple):
    """A row and its first line; `values` is an error for a malformed row."""

    line: int
    values: list[str] | csv.Error


class CsvReader(RecordReader):
    """One document a row; a row without an id is named `<file name>:<line>`, its first line.

    The delimiter is a comma, tab, semicolon or bar, whichever makes `text_field` a column. Fields
    may be quoted and hold line ends. Blank lines are skipped. Source: RFC 4180.
    """

    globs = with_suffixes("csv", "tsv")

    def _records(self, file: SourceFile) -> Iterator[Record]:
        rows = self._rows(file)
        header = next(rows, None)
        if header is None:
            return
        columns = self._columns(file, header, rows)
        for row in rows:
            yield Record("line", row.line, partial(self._values, columns, row.values))

    def _rows(self, file: SourceFile) -> Iterator[_Row]:
        """The rows that are not blank; bytes that are no UTF-8 are read as surrogates.

        Raises:
            Unreadable: the file is JSON, or can't be read.
        """
        text = (line.decode("utf-8", "surrogateescape") for line in lines(file))
        head = list(_up_to_header(text))
        header = head[-1] if head else ""
        found = text_format(file.name, [line.encode("utf-8", "replace") for line in head], "")
        if found is not None and found.name.startswith("JSON"):
            raise Unreadable(file.name, f"is {found.name}, expected a table", found.fix)
        csv.field_size_limit(_LARGEST_FIELD)
        mark = delimiter(header, self._fields.text)
        return _numbered(csv.reader(itertools.chain(head, text), delimiter=mark, strict=True))

    def _columns(self, file: SourceFile, header: _Row, rows: Iterator[_Row]) -> list[str]:
        """The columns' names, of which the text's must be one.

        Args:
            rows: those below the header; the first is read for a message.

        Raises:
            UserError: it is not.
            Unreadable: the header is malformed.
        """
        if isinstance(header.values, csv.Error):
            raise Unreadable(f"{file.name}, line {header.line}", *_explained(header.values))
        text, names = self._fields.text, header.values
        if names.count(text) == 1:
            return names
        present = ", ".join(map(_shortened, names))
        if text in names:
            raise UserError(
                f"{file.name}: two columns are called {text!r}; the columns are: {present}",
                fix="give each column of the first line a name of its own",
            )
        row = next(rows, header)
        sample = [] if isinstance(row.values, csv.Error) else row.values
        raise UserError(
            f"{file.name}: no column {text!r}; the first line names the columns: {present}",
            fix=text_field_fix(dict(zip(names, sample, strict=False)), "column"),
        )

    def _values(self, columns: list[str], values: list[str] | csv.Error) -> dict[str, str | None]:
        """The row's text and id; an empty id is none.

        Raises:
            MalformedRecord: the row is malformed, or not valid UTF-8.
        """
        if isinstance(values, csv.Error):
            raise MalformedRecord(*_explained(values))
        if len(values) != len(columns):
            fields = "1 field" if len(values) == 1 else f"{len(values)} fields"
            raise MalformedRecord(
                f"{fields}, expected {len(columns)} as in the first line",
                fix="quote a field that holds the delimiter or a quotation mark",
            )
        record = dict(zip(columns, values, strict=True))
        text, name = self._fields
        found: dict[str, str | None] = {text: _decoded(text, record[text])}
        if name is not None and name != text and name in record:
            found[name] = _decoded(name, record[name]) or None
        return found


def _up_to_header(text: Iterator[str]) -> Iterator[str]:
    """Lines up to the first one that is not blank."""
    for line in text:
        yield line
        if line.strip():
            return


def _numbered(reader: Any) -> Iterator[_Row]:
    """The rows of a `csv.reader` that are not blank; reading goes on behind a malformed one."""
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _Row(line, error)
        else:
            if values:
                yield _Row(line, values)


def _decoded(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        byte = ord(value[error.start]) - _SURROGATE
        raise MalformedRecord(
            f"column {name!r} is not valid UTF-8: byte 0x{byte:02x}",
            fix="convert the file from its encoding: iconv -f CP1252 -t UTF-8 FILE > NEW",
        ) from error
    return value


def _explained(error: csv.Error) -> tuple[str, str]:
    """The problem and the fix of an error of Python's csv."""
    said = str(error)
    known = (told for part, told in _PROBLEMS.items() if part in said)
    return next(known, (f"not valid CSV: {said}", _DOUBLED))


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else name[:37] + "..."

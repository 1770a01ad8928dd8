"""The documents that readers yield, and the handling of malformed records."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

from retro_lab.config.errors import UserError
from retro_lab.config.schema import OnError

from .recognise import text_field_fix

LOG = logging.getLogger("retro_lab")
_LOGGED = 5  # skipped records that are logged individually
_INCOMPLETE = "check that the file is complete and that its suffix names its format"
_EXACT = 2**53  # whole numbers below it are exact as floats


class Document(NamedTuple):
    """One document of a corpus.

    Attributes:
        id: name, unique in the corpus.
        text: raw text; UTF-8 encodable, may hold any character, may be empty.
        place: location for messages ("docs.jsonl, line 17").
        split: split of the document's file; None if the split is drawn from the id.
    """

    id: str
    text: str
    place: str
    split: str | None = None


class SourceFile(NamedTuple):
    """One input file.

    Attributes:
        name: part of document ids, unique in the corpus and independent of the corpus's location:
            relative to the folder or the fixed part of the glob, prefixed with the split's name for
            files of validation or test.
        path: its location.
        split: the split of the file's documents, or None.
    """

    name: str
    path: Path
    split: str | None


class FileList(NamedTuple):
    """The input files of a corpus.

    Attributes:
        read: in reading order.
        left_out: other files found, by name, with the reason.
    """

    read: list[SourceFile]
    left_out: dict[str, str]


class Malformed:
    """Counts malformed records, or ends the command at the first one.

    Args:
        on_error: `stop` or `skip` (`corpus.on_error`).

    Attributes:
        count: records skipped so far.
        first: message about the first of them.
    """

    def __init__(self, on_error: OnError) -> None:
        self.on_error = on_error
        self.count = 0
        self.first: str | None = None

    def report(self, place: str, problem: str, fix: str | None = None) -> None:
        """Records a malformed record; raises UserError if the policy is to stop."""
        if self.on_error is OnError.stop:
            skip = "corpus.on_error=skip passes over such records"
            raise UserError(f"{place}: {problem}", fix=f"{fix}; {skip}" if fix else skip)
        self.skip(place, problem)

    def skip(self, place: str, problem: str) -> None:
        """Skips a record, whatever the policy."""
        self.count += 1
        self.first = self.first or f"{place}: {problem}"
        if self.count <= _LOGGED:
            LOG.warning("skipped %s: %s", place, problem)


class Reader(Protocol):
    """Reads a corpus of one type; constructed from its configuration alone.

    A class of a user's own may inherit from it, and then has the defaults below.
    """

    def __init__(self, config: Any) -> None: ...

    @property
    def files(self) -> FileList:
        """The files found; empty for corpora without files named by the user."""
        return FileList([], {})

    @property
    def fields(self) -> Mapping[str, str]:
        """The settings that change which text is read from the same input.

        All settings of a user's own reader do, whatever this returns: by default nothing.
        """
        return {}

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        """All documents in a fixed order, including empty ones.

        Raises:
            UserError: the input is missing or broken, or a record is malformed and the policy is to
                stop.
        """
        ...

    def input_digest(self) -> dict[str, str]:
        """SHA-256 of the raw inputs, by name; raises UserError if one is missing."""
        ...


def decode_utf8(data: bytes) -> str:
    """Text of UTF-8 `data` without a byte order mark; ValueError names the wrong byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"not valid UTF-8: byte 0x{byte:02x} at offset {error.start}") from error


class Fields(NamedTuple):
    """Field names of a record's text and id; with `id` None all records are numbered."""

    text: str
    id: str | None

    def settings(self) -> dict[str, str]:
        """The names as a stage's fields, without null."""
        named = {"text_field": self.text, "id_field": self.id}
        return {key: name for key, name in named.items() if name is not None}

    def document(
        self, record: Mapping[str, Any], default_id: str, place: str, split: str | None
    ) -> Document:
        """The document of one record, with `default_id` if the record has no id.

        Raises:
            MalformedRecord: the text is missing or not a string, or the id is no string or integer.
        """
        if self.text not in record:
            present = ", ".join(record) or "none"
            raise MalformedRecord(
                f"no field {self.text!r}; the fields are: {present}",
                fix=text_field_fix(record),
            )
        text = _text_of(self.text, record[self.text])
        if not isinstance(text, str):
            raise MalformedRecord(f"field {self.text!r} holds {_kind(text)}, expected a string")
        name = None if self.id is None else record.get(self.id)
        if isinstance(name, float):
            name = _whole(str(self.id), name)
        if name is None:
            name = default_id
        elif isinstance(name, bool) or not isinstance(name, (str, int)):
            raise MalformedRecord(
                f"field {self.id!r} holds {_kind(name)}, expected a string or a whole number",
                fix="corpus.id_field=<the field that holds the id>",
            )
        return Document(str(name), text, place, split)


def _text_of(field: str, value: Any) -> Any:
    """Bytes decoded as UTF-8; other values unchanged."""
    if not isinstance(value, bytes):
        return value
    try:
        return decode_utf8(value)
    except ValueError as error:
        raise MalformedRecord(f"field {field!r} holds bytes, {error}") from error


def _whole(field: str, number: float) -> int | None:
    """An integer id from a float, as tables store ids in a column with gaps; None for NaN."""
    if math.isnan(number):
        return None
    if not number.is_integer() or abs(number) >= _EXACT:
        raise MalformedRecord(
            f"field {field!r} holds {number!r}, expected a string or a whole number below 2^53",
            fix="corpus.id_field=<the field that holds the id>",
        )
    return int(number)


class MalformedRecord(Exception):
    """A record that is no document; readers pass it to `Malformed.report`."""

    def __init__(self, problem: str, fix: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


class Unreadable(UserError):
    """A file that can't be read completely.

    Args:
        place: the file, and the last line read.
        problem: why reading stopped.
        fix: what a user can do.
    """

    def __init__(self, place: str, problem: str, fix: str = _INCOMPLETE) -> None:
        super().__init__(f"{place}: {problem}", fix)
        self.given = place, problem, fix
        self.place = place
        self.problem = problem

    def __reduce__(self) -> tuple[type[Unreadable], tuple[str, str, str]]:
        return type(self), self.given


def unreadable(place: str, error: Exception) -> NoReturn:
    """Raises `Unreadable` for a system's or decoder's error."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    large_window = "too much memory for decoding" in reason
    fix = "zstd -d --long=31 FILE, then zstd FILE" if large_window else _INCOMPLETE
    raise Unreadable(place, f"can't be read: {reason}", fix) from error


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number"}
    names |= {str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")

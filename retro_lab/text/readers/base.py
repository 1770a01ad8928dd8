"""What every reader yields, and the one policy for records that can't be read."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from retro_lab.config.errors import UserError
from retro_lab.config.schema import OnError

if TYPE_CHECKING:
    from .files import FileList

LOG = logging.getLogger("retro_lab")
_LOGGED = 5  # skipped records that are named one by one
_INCOMPLETE = "check that the file is complete and that its suffix names its format"
_EXACT = 2**53  # whole numbers below it are exact as floats


class Document(NamedTuple):
    """One document as it was read.

    Attributes:
        id: name, unique in the corpus.
        text: its raw text; UTF-8 encodable, may hold any character, may be empty.
        place: where it lies, for messages ("docs.jsonl, line 17").
        split: the split that its file is given for; None where the split is drawn from the id.
    """

    id: str
    text: str
    place: str
    split: str | None = None


class Malformed:
    """Counts the records that can't be read, or ends the command at the first one.

    Args:
        on_error: `stop` or `skip` (`corpus.on_error`).

    Attributes:
        count: records passed over so far.
        first: message about the first of them.
    """

    def __init__(self, on_error: OnError) -> None:
        self.on_error = on_error
        self.count = 0
        self.first: str | None = None

    def report(self, place: str, problem: str, fix: str | None = None) -> None:
        """Notes a malformed record; raises UserError if the policy is to stop."""
        if self.on_error is OnError.stop:
            skip = "corpus.on_error=skip passes over such records"
            raise UserError(f"{place}: {problem}", fix=f"{fix}; {skip}" if fix else skip)
        self.skip(place, problem)

    def skip(self, place: str, problem: str) -> None:
        """Passes over a record whatever the policy."""
        self.count += 1
        self.first = self.first or f"{place}: {problem}"
        if self.count <= _LOGGED:
            LOG.warning("skipped %s: %s", place, problem)


class Reader(Protocol):
    """A corpus of one kind; constructed from its configuration alone."""

    def __init__(self, config: Any) -> None: ...

    @property
    def files(self) -> FileList:
        """The files that were found; empty where the text isn't in files that a user named."""
        ...

    @property
    def fields(self) -> Mapping[str, str]:
        """The settings that change which text is read from the same input."""
        ...

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        """All documents, in the same order every time, empty ones included.

        Raises:
            UserError: the input is missing or broken, or a record is and the policy is to stop.
        """
        ...

    def input_digest(self) -> dict[str, str]:
        """SHA-256 of the raw inputs, by name; raises UserError if one is missing."""
        ...


def decode_utf8(data: bytes) -> str:
    """Text of UTF-8 `data`, without a byte order mark; ValueError says which byte is wrong."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"not valid UTF-8: byte 0x{byte:02x} at offset {error.start}") from error


class Fields(NamedTuple):
    """Which fields of a record hold its text and its id; without the latter all are numbered."""

    text: str
    id: str | None

    def settings(self) -> dict[str, str]:
        """As a stage's fields; what is null is left out."""
        named = {"text_field": self.text, "id_field": self.id}
        return {key: name for key, name in named.items() if name is not None}

    def document(
        self, record: Mapping[str, Any], default_id: str, place: str, split: str | None
    ) -> Document:
        """The document of one record; a record without an id takes `default_id`.

        Raises:
            MalformedRecord: the text is missing or isn't text, or the id isn't a name.
        """
        if self.text not in record:
            present = ", ".join(record) or "none"
            raise MalformedRecord(
                f"no field {self.text!r}; the fields are: {present}",
                fix="corpus.text_field=<the field that holds the text>",
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
    """Bytes as the UTF-8 text that they are; anything else as it is."""
    if not isinstance(value, bytes):
        return value
    try:
        return decode_utf8(value)
    except ValueError as error:
        raise MalformedRecord(f"field {field!r} holds bytes, {error}") from error


def _whole(field: str, number: float) -> int | None:
    """The whole number that a float stands for, as tables write ids in a column with gaps."""
    if math.isnan(number):
        return None
    if not number.is_integer() or abs(number) >= _EXACT:
        raise MalformedRecord(
            f"field {field!r} holds {number!r}, expected a string or a whole number below 2^53",
            fix="corpus.id_field=<the field that holds the id>",
        )
    return int(number)


class MalformedRecord(Exception):
    """One record that isn't a document; readers hand it on to `Malformed.report`."""

    def __init__(self, problem: str, fix: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


class Unreadable(UserError):
    """A file that can't be read, or not to its end.

    Args:
        place: the file, and the last of its lines that was read.
        problem: why no more was.
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
    """Raises `Unreadable` for what the system, or a decoder, said of a file."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    large_window = "too much memory for decoding" in reason
    fix = "zstd -d --long=31 FILE, then zstd FILE" if large_window else _INCOMPLETE
    raise Unreadable(place, f"can't be read: {reason}", fix) from error


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number"}
    names |= {str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")

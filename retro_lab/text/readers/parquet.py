"""Corpus `parquet`: Parquet files, one document a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from retro_lab.config.errors import UserError

from .base import MalformedRecord, Unreadable, unreadable
from .files import SourceFile, open_raw
from .formats import HEAD_BYTES, Format, compression, other_format
from .recognise import text_field_fix, text_format
from .records import Record, RecordReader

_MAGIC = b"PAR1"
_OTHER_CORPUS = (
    "corpus=jsonl reads JSON lines and corpus=csv tables, compressed or not; corpus=text reads text"
)
_SAMPLED = 16  # rows read to find the column of text
_ROWS_A_BATCH = 256  # a batch is held in memory, and documents can be long


class ParquetReader(RecordReader):
    """One document a row; a row without an id is named `<file name>:<row>`, from 1."""

    globs = ("**/*.parquet",)

    def _records(self, file: SourceFile) -> Iterator[Record]:
        for row, scalars in enumerate(self._rows(file), 1):
            yield Record("row", row, partial(_values, scalars))

    def _rows(self, file: SourceFile) -> Iterator[dict[str, Any]]:
        """Rows as Arrow scalars, so that invalid UTF-8 in one row leaves its batch readable."""
        import pyarrow
        import pyarrow.parquet

        with open_raw(file) as raw:
            try:
                table = pyarrow.parquet.ParquetFile(raw)
                columns = self._columns(file, table)
                for batch in table.iter_batches(_ROWS_A_BATCH, columns=columns):
                    for values in zip(*batch.columns, strict=True):
                        yield dict(zip(batch.schema.names, values, strict=True))
            except pyarrow.ArrowException as error:
                raw.seek(0)
                head = raw.read(HEAD_BYTES)
                found = None if head.startswith(_MAGIC) else self._other(file, head)
                if found is not None:
                    problem = f"is {found.name}, expected a Parquet file"
                    raise Unreadable(file.name, problem, found.fix) from error
                unreadable(file.name, error)

    def _other(self, file: SourceFile, head: bytes) -> Format | None:
        """The format of a file that is no Parquet file; None if unrecognised."""
        codec = compression(head)
        if codec is not None:
            return Format(f"compressed by {codec}", _OTHER_CORPUS)
        found = text_format(file.name, head.splitlines(keepends=True), self._fields.text)
        return other_format(head) or found

    def _columns(self, file: SourceFile, table: Any) -> list[str]:
        schema = table.schema_arrow
        if self._fields.text not in schema.names:
            present = ", ".join(schema.names)
            raise UserError(
                f"{file.name}: no column {self._fields.text!r}; the columns are: {present}",
                fix=text_field_fix(_sample(table), "column"),
            )
        kind = schema.field(self._fields.text).type
        if not _is_text(kind):
            present = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise UserError(
                f"{file.name}: column {self._fields.text!r} holds {kind}, expected text; "
                f"the columns are: {present}",
                fix=text_field_fix(_sample(table), "column"),
            )
        wanted = dict.fromkeys(name for name in self._fields if name is not None)
        return [name for name in wanted if name in schema.names]


def _is_text(kind: Any) -> bool:
    """Whether a column's type is text or bytes, plain or dictionary-encoded."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    binaries = (types.is_binary, types.is_large_binary, types.is_binary_view)
    return any(is_kind(kind) for is_kind in (*texts, *binaries))


def _sample(table: Any) -> dict[str, Any]:
    """The columns of text, each with its longest value in the first rows."""
    names = [field.name for field in table.schema_arrow if _is_text(field.type)]
    batch = next(table.iter_batches(_SAMPLED, columns=names), None) if names else None
    if batch is None:
        return dict.fromkeys(names, " ")
    longest = (max((_python(v) or "" for v in values), key=len) for values in batch.columns)
    return {name: str(value) for name, value in zip(batch.schema.names, longest, strict=True)}


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _python(value) for name, value in row.items()}


def _python(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        raise MalformedRecord(f"not valid UTF-8 at offset {error.start}") from error

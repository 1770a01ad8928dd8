"""Corpus `parquet`: Parquet files, one document a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.config.schema import ParquetCorpusConfig

from .base import Document, Fields, Malformed, MalformedRecord, Unreadable, unreadable
from .files import SourceFile, digests, open_raw, source_files
from .formats import HEAD_BYTES, compression, other_format

_MAGIC = b"PAR1"
_OTHER_CORPUS = "corpus=jsonl reads JSON lines, compressed or not; corpus=text reads text files"
_ROWS_A_BATCH = 256  # a batch is held in memory, and documents can be long


class ParquetReader:
    """One document a row; a row without an id is named `<file name>:<row>`, from 1."""

    def __init__(self, config: ParquetCorpusConfig) -> None:
        self.files = source_files(config, ["**/*.parquet"])
        self._fields = Fields(config.text_field, config.id_field)

    @property
    def fields(self) -> dict[str, str]:
        return self._fields.settings()

    def input_digest(self) -> dict[str, str]:
        return digests(self.files.read)

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        for file in self.files.read:
            for row, record in enumerate(self._records(file), 1):
                place = f"{file.name}, row {row}"
                try:
                    values = {name: _python(value) for name, value in record.items()}
                    default_id = f"{file.name}:{row}"
                    document = self._fields.document(values, default_id, place, file.split)
                except MalformedRecord as error:
                    malformed.report(place, error.problem, error.fix)
                else:
                    yield document

    def _records(self, file: SourceFile) -> Iterator[dict[str, Any]]:
        """Rows as Arrow scalars, so that invalid UTF-8 in one row leaves its batch readable."""
        import pyarrow
        import pyarrow.parquet

        with open_raw(file) as raw:
            try:
                table = pyarrow.parquet.ParquetFile(raw)
                columns = self._columns(file, table.schema_arrow)
                for batch in table.iter_batches(_ROWS_A_BATCH, columns=columns):
                    for values in zip(*batch.columns, strict=True):
                        yield dict(zip(batch.schema.names, values, strict=True))
            except pyarrow.ArrowException as error:
                raw.seek(0)
                head = raw.read(HEAD_BYTES)
                if not head.startswith(_MAGIC) and (name := _name_of(head)):
                    problem = f"is {name}, expected a Parquet file"
                    raise Unreadable(file.name, problem, _OTHER_CORPUS) from error
                unreadable(file.name, error)

    def _columns(self, file: SourceFile, schema: Any) -> list[str]:
        if self._fields.text not in schema.names:
            present = ", ".join(schema.names)
            raise UserError(
                f"{file.name}: no column {self._fields.text!r}; the columns are: {present}",
                fix="corpus.text_field=<the column that holds the text>",
            )
        kind = schema.field(self._fields.text).type
        if not _is_text(kind):
            present = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise UserError(
                f"{file.name}: column {self._fields.text!r} holds {kind}, expected text; "
                f"the columns are: {present}",
                fix="corpus.text_field=<the column that holds the text>",
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


def _name_of(head: bytes) -> str | None:
    other = other_format(head)
    if other is not None:
        return other.name
    codec = compression(head)
    if codec is not None:
        return f"compressed by {codec}"
    return "JSON" if head.lstrip()[:1] in (b"{", b"[") else None


def _python(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        raise MalformedRecord(f"not valid UTF-8 at offset {error.start}") from error

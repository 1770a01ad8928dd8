"""Corpus `jsonl`: JSON lines, plain or compressed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from retro_lab.config.schema import JsonlCorpusConfig, OnError

from .base import Document, Fields, Malformed, MalformedRecord, Unreadable, decode_utf8
from .files import SourceFile, digests, lines, source_files

_SUFFIXES = ("jsonl", "ndjson")
_PATTERNS = [f"**/*.{suffix}{packed}" for suffix in _SUFFIXES for packed in ("", ".gz", ".zst")]


class JsonlReader:
    """One document a line; a document without an id is called `<file name>:<line>`.

    Blank lines are passed over. Lines end at a line feed only. Of a compressed file that is cut
    short the lines before the cut are documents where malformed records are passed over.
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
        for number, line in enumerate(lines(file), 1):
            if line.isspace():
                continue
            place = f"{file.name}, line {number}"
            try:
                yield self._document(line, f"{file.name}:{number}", place, file)
            except MalformedRecord as error:
                malformed.report(place, error.problem, error.fix)

    def _document(self, line: bytes, default_id: str, place: str, file: SourceFile) -> Document:
        record = _parse(line)
        if not isinstance(record, dict):
            raise MalformedRecord("expected a JSON object with fields")
        return self._fields.document(record, default_id, place, file.split)


def _parse(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            decode_utf8(line)
        except ValueError as wrong:
            raise MalformedRecord(str(wrong)) from error
        if line.strip() in (b"[", b"{"):
            raise MalformedRecord(
                "a JSON value over several lines, expected an object a line",
                fix="convert the file, as `jq -c '.[]' FILE.json > FILE.jsonl` does with an array",
            ) from error
        raise MalformedRecord(f"not valid JSON: {error.msg} at column {error.colno}") from error

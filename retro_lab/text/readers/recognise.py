"""Recognises text formats by their first lines, for tables and for messages."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from .formats import Format
from .left_out import uncompressed

DELIMITERS = (",", "\t", ";", "|")
"""What may part the columns of a table, the usual one first."""

_TABLES, _TEXTS = (".csv", ".tsv"), (".txt", ".md")
_PLAIN_NAME = re.compile(r"[\w .-]+", re.ASCII)  # needs no quotes in Hydra's grammar


def assigned(key: str, value: str) -> str:
    """`key=value` as typed in a shell, quoted for the shell and for Hydra where needed."""
    if not _PLAIN_NAME.fullmatch(value):
        value = '"' + value.replace('"', '\\"') + '"'
    return shlex.quote(f"{key}={value}")


def text_field_fix(record: Mapping[str, Any], what: str = "field") -> str:
    """The setting of the field that most likely holds the text: the longest string of a record.

    Args:
        record: some record of the file, by field.
        what: "field" or "column", for a record without any string.
    """
    lengths = {name: len(value) for name, value in record.items() if isinstance(value, str)}
    if not lengths or not max(lengths.values()):
        return f"corpus.text_field=<the {what} that holds the text>"
    return assigned("corpus.text_field", max(lengths, key=lengths.__getitem__))


def delimiter(header: str, wanted: str) -> str:
    """The delimiter under which a header has the column `wanted`, or else the most columns."""

    def rank(candidate: str) -> tuple[bool, int]:
        names = _row([header], candidate)
        return wanted in names, len(names)

    return max(DELIMITERS, key=rank)  # of equals the first


def text_format(name: str, lines: Iterable[bytes], wanted: str) -> Format | None:
    """The format of a text file that another reader takes; None if unrecognised.

    Args:
        name: the file's name, whose suffix decides where the lines alone don't.
        lines: the first lines, the last one possibly cut.
        wanted: the value of `corpus.text_field`.
    """
    rows = [line.decode("utf-8-sig", "replace") for line in lines if line.strip()]
    if not rows:
        return None
    if (first := rows[0].lstrip()[:1]) in ("{", "["):
        array = Format("JSON, an array", "corpus=json")
        return array if first == "[" else Format("JSON", "corpus=jsonl")
    suffix = uncompressed(PurePath(name)).suffix
    mark = delimiter(rows[0], wanted)
    header, sample = _row(rows, mark), _row(rows[1:], mark)
    alike = len(header) > 1 and len(sample) == len(header)
    if suffix in _TABLES or (alike and suffix not in _TEXTS):
        fix = "corpus=csv"
        if wanted not in header:
            fix += " " + text_field_fix(dict(zip(header, sample, strict=False)), "column")
        return Format("a table of delimited text (CSV)", fix)
    return Format("plain text", "corpus=text") if suffix in _TEXTS else None


def _row(lines: Iterable[str], mark: str) -> list[str]:
    """The first row of a table; empty if there is none."""
    rows: Iterator[list[str]] = csv.reader(lines, delimiter=mark)
    try:
        return next(rows, [])
    except csv.Error:
        return []

"""Maps a corpus configuration to its reader, whose libraries are imported on first use."""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name

from retro_lab.config.errors import registered
from retro_lab.config.schema import (
    CorpusConfig,
    CsvCorpusConfig,
    HfCorpusConfig,
    JsonCorpusConfig,
    JsonlCorpusConfig,
    NorlundCorpusConfig,
    OwnCorpusConfig,
    ParquetCorpusConfig,
    PythonCorpusConfig,
    TextCorpusConfig,
    WikitextCorpusConfig,
)

from .base import Document, Malformed, Reader

_FILE = "retro_lab/text/readers/registry.py"

READERS: dict[type[CorpusConfig], str] = {
    PythonCorpusConfig: "python:PythonReader",
    JsonlCorpusConfig: "jsonl:JsonlReader",
    JsonCorpusConfig: "jsonl:JsonReader",
    CsvCorpusConfig: "table:CsvReader",
    TextCorpusConfig: "plain_text:TextReader",
    ParquetCorpusConfig: "parquet:ParquetReader",
    HfCorpusConfig: "hub:HubReader",
    NorlundCorpusConfig: "norlund:NorlundReader",
    WikitextCorpusConfig: "wikitext:WikitextReader",
    OwnCorpusConfig: "own:OwnReader",
}
"""Configuration class to `module:class` in this package; a new type of corpus adds a line."""


def build_reader(config: CorpusConfig) -> Reader:
    """The reader of a corpus; the user's own is imported.

    Raises:
        UserError: no reader is registered, the files are missing, or the user's own fails.
    """
    kind = registered(READERS, config, "corpus", "reader", _FILE)
    return resolve_name(f"{__package__}.{kind}")(config)


def read_documents(config: CorpusConfig, malformed: Malformed | None = None) -> Iterator[Document]:
    """All documents of a corpus in its order, including empty ones; without splits and size limit.

    Args:
        config: the corpus.
        malformed: collects skipped records; by default follows `corpus.on_error`.

    Raises:
        UserError: names the file, the line and the fix.
    """
    yield from build_reader(config).documents(malformed or Malformed(config.on_error))


def input_digest(config: CorpusConfig) -> dict[str, str]:
    """SHA-256 of a corpus's raw inputs, by name, for `Stage.inputs`; raises as `build_reader`."""
    return build_reader(config).input_digest()

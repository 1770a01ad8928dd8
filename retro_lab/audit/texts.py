"""The documents of an audit: the scored text, and the text trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    CsvCorpusConfig,
    JsonCorpusConfig,
    JsonlCorpusConfig,
    ParquetCorpusConfig,
    TextCorpusConfig,
)
from retro_lab.text.readers import read_documents
from retro_lab.text.readers.left_out import uncompressed

_FORMATS = {
    ".jsonl": JsonlCorpusConfig,
    ".ndjson": JsonlCorpusConfig,
    ".json": JsonCorpusConfig,
    ".csv": CsvCorpusConfig,
    ".tsv": CsvCorpusConfig,
    ".parquet": ParquetCorpusConfig,
    ".txt": TextCorpusConfig,
    ".md": TextCorpusConfig,
    "": TextCorpusConfig,  # a folder of text files
}

_SKIPPING = "corpus.on_error=skip passes over such records"  # a setting of training runs


class Text(NamedTuple):
    """A document that was scored.

    Attributes:
        id: its name.
        text: as a string.
        raw: the same in UTF-8.
    """

    id: str
    text: str
    raw: bytes


class Fields(NamedTuple):
    """Names of the fields of a record: its text, and its id."""

    text: str = "text"
    id: str = "id"


def read_scored(path: Path, fields: Fields) -> list[Text]:
    """The documents of the scored text in their order, empty ones left out.

    Raises:
        UserError: the file can't be read, holds no text, or repeats an id.
    """
    texts = [Text(name, text, text.encode()) for name, text in _documents(path, "text", fields)]
    if not texts:
        raise UserError(f"text={path} holds no text", fix="give the text that was scored")
    seen: set[str] = set()
    for each in texts:
        if each.id in seen:
            raise UserError(
                f"text={path}: two documents have the id {each.id!r}",
                fix="make ids unique, or name another field with id_field=...",
            )
        seen.add(each.id)
    return texts


def training_text(paths: Sequence[Path], fields: Fields) -> Iterator[bytes]:
    """The documents that were trained on, in UTF-8.

    Raises:
        UserError: a file can't be read.
    """
    for path in paths:
        for _, text in _documents(path, "train", fields):
            yield text.encode()


def _documents(path: Path, key: str, fields: Fields) -> Iterator[tuple[str, str]]:
    """Id and text of every document that is not empty."""
    suffix = uncompressed(PurePath(path.name)).suffix
    if path.is_dir():
        suffix = ""
    elif not path.is_file():
        raise UserError(f"{key}={path} does not exist", fix=f"{key}=FILE, such as test.jsonl")
    if suffix not in _FORMATS:
        known = ", ".join(name for name in _FORMATS if name)
        raise UserError(
            f"{key}={path}: a file of this name can't be read",
            fix=f"name it by its format: {known}, each also compressed; or a folder of .txt files",
        )
    config = _FORMATS[suffix](path=str(path), text_field=fields.text, id_field=fields.id)
    if isinstance(config, TextCorpusConfig) and not path.is_dir():
        config.pattern = f"**/*{suffix}"
    try:
        for document in read_documents(config):
            if document.text:
                yield document.id, document.text
    except UserError as error:
        fix = (error.fix or "").removesuffix(_SKIPPING).rstrip("; ").replace("corpus.", "")
        raise UserError(f"{key}={path}: {error.message}", fix=fix or "repair the file") from error

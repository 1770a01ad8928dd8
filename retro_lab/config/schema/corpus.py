"""Group `corpus`: where documents come from and how they are split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from omegaconf import MISSING

from ..errors import UserError, problem
from .own_part import OwnPart
from .setting import setting

SPLITS = ("train", "validation", "test")


class OnError(Enum):
    """Effect of a malformed record: `stop` ends the command, `skip` counts and omits the record."""

    stop = "stop"
    skip = "skip"


@dataclass
class SplitConfig:
    """The split of each document, by a hash of its id or by lists of ids.

    Attributes:
        validation: share of documents for validation.
        test: share of documents for the test split.
        group_pattern: regular expression searched in a document's id; documents with the same first
            group (such as versions of one page) stay in one split.
        train_ids: file with one document id a line; all three files together replace the hash.
        validation_ids: as train_ids, for validation.
        test_ids: as train_ids, for test.
    """

    validation: float = setting(0.05, at_least=0, below=1)
    test: float = setting(0.15, at_least=0, below=1)
    group_pattern: str | None = None
    train_ids: str | None = setting(None, path=True)
    validation_ids: str | None = setting(None, path=True)
    test_ids: str | None = setting(None, path=True)

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.validation + self.test >= 1:
            yield problem(
                f"{prefix}validation",
                self.validation,
                f"with {prefix}test={self.test} nothing is left to train on",
                f"{prefix}validation=0.05 {prefix}test=0.15",
            )
        lists = [self.train_ids, self.validation_ids, self.test_ids]
        if any(lists) and not all(lists):
            yield UserError(
                f"{prefix.rstrip('.')}: train_ids, validation_ids and test_ids go together, "
                f"but only {sum(map(bool, lists))} of 3 are set",
                fix="set all three, or none",
            )


@dataclass
class CorpusConfig:
    """Base of all corpora.

    Attributes:
        name: the option's name.
        max_bytes: limit on UTF-8 bytes of text; null takes everything. Whole documents are taken in
            the order of their ids' hashes, a random sample. A document larger than the rest is
            skipped until nine tenths are full.
        on_error: effect of a malformed record; the lost end of a truncated compressed file counts
            as one record.
    """

    name: str = "python"
    max_bytes: int | None = setting(None, at_least=1)
    on_error: OnError = OnError.stop
    split: SplitConfig = field(default_factory=SplitConfig)


@dataclass
class PythonCorpusConfig(CorpusConfig):
    """The running interpreter's standard library: module sources and pydoc topics."""


@dataclass
class FileCorpusConfig(CorpusConfig):
    """A file, a folder or a glob of files.

    Attributes:
        path: the training file, or all documents if the other two are null.
        validation_path: file with the validation documents.
        test_path: file with the test documents.
        text_field: field that holds a document's text.
        id_field: field that holds its id; a record without one is numbered, and null numbers all.
    """

    path: str = setting(MISSING, path=True)
    validation_path: str | None = setting(None, path=True)
    test_path: str | None = setting(None, path=True)
    text_field: str = "text"
    id_field: str | None = "id"


@dataclass
class JsonlCorpusConfig(FileCorpusConfig):
    """JSON lines, plain or compressed (.gz, .zst)."""

    name: str = "jsonl"


@dataclass
class JsonCorpusConfig(FileCorpusConfig):
    """JSON files, each an array of objects; JSON lines are read too."""

    name: str = "json"


@dataclass
class CsvCorpusConfig(FileCorpusConfig):
    """Delimited text (.csv, .tsv) whose first line names the columns, plain or compressed."""

    name: str = "csv"


@dataclass
class ParquetCorpusConfig(FileCorpusConfig):
    """Parquet files."""

    name: str = "parquet"


@dataclass
class TextCorpusConfig(FileCorpusConfig):
    """A folder of text files; each file is a document, its relative path the id.

    Attributes:
        pattern: glob, relative to the folder; with the default, a folder without .txt files is read
            for its .md files.
        separator: what parts the documents of a file, such as `\\n\\n\\n`; null takes each file as
            one document.
    """

    name: str = "text"
    pattern: str = "**/*.txt"
    separator: str | None = setting(None, neutral=None)

    def problems(self, prefix: str) -> Iterator[UserError]:
        if self.separator == "":
            yield problem(
                f"{prefix}separator",
                "",
                "nothing parts no documents",
                f"{prefix}separator='\\n\\n\\n', or null for a document a file",
            )


@dataclass
class WikitextCorpusConfig(FileCorpusConfig):
    """WikiText-103 or -2 raw files; a document is an article (split at ` = Title = ` lines)."""

    name: str = "wikitext103"


@dataclass
class NorlundCorpusConfig(FileCorpusConfig):
    """A dataset made by the scripts of TobiasNorlund/retro: chunks, optionally with neighbours.

    Paths name its spec files; `text_field` and `id_field` have no effect.

    Attributes:
        tokenizer: hub name or local folder of the tokenizer that made the dataset; by default
            `tokenizer.path`.
    """

    name: str = "norlund"
    tokenizer: str | None = setting(None, path=True)


@dataclass
class HfCorpusConfig(CorpusConfig):
    """A dataset of the Hugging Face hub, or a local one that `datasets` can load.

    Attributes:
        path: hub name or local path.
        subset: configuration name.
        hf_split: the dataset's split to read.
        revision: pinned revision.
        text_field: column that holds a document's text.
        id_field: column that holds its id; null numbers all rows.
    """

    name: str = "hf"
    path: str = setting(MISSING, path=True)
    subset: str | None = None
    hf_split: str = "train"
    revision: str | None = None
    text_field: str = "text"
    id_field: str | None = "id"


@dataclass
class OwnCorpusConfig(OwnPart, CorpusConfig):
    """A corpus read by a reader of the user's own (docs/own_parts.md)."""

    kind: ClassVar[str] = "reader"

    name: str = "custom"

"""Group `corpus`: where documents come from and how they are split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from ..errors import UserError, problem
from .setting import setting

SPLITS = ("train", "validation", "test")


class OnError(Enum):
    """What a malformed record does: end the command, or be counted and passed over."""

    stop = "stop"
    skip = "skip"


@dataclass
class SplitConfig:
    """Documents are dealt to splits by a hash of their id, so a document never moves.

    Attributes:
        validation: share of documents for validation.
        test: share of documents for the test split.
        group_pattern: regular expression searched in a document's id; documents that agree in
            its first group stay in one split (versions of one page, say).
        train_ids: file with one document id a line; with the other two, overrides the hash.
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
        max_bytes: stop after this many UTF-8 bytes of text (whole documents, taken in the order
            of their ids' hashes, so the cut is a random sample); null takes everything. One that
            is larger than what is left is passed over, until nine tenths are full.
        on_error: what a malformed record does; what lies behind the cut of a compressed file that
            is cut short is one such record.
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
        path: the training file, or all documents when the other two are null.
        validation_path: documents for validation, as their own file.
        test_path: documents for test, as their own file.
        text_field: field that holds a document's text.
        id_field: field that holds its id; a record without it is numbered, and null numbers all.
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
class ParquetCorpusConfig(FileCorpusConfig):
    """Parquet files."""

    name: str = "parquet"


@dataclass
class TextCorpusConfig(FileCorpusConfig):
    """A folder of text files, one document a file, its relative path the id.

    Attributes:
        pattern: glob, relative to the folder.
    """

    name: str = "text"
    pattern: str = "**/*.txt"


@dataclass
class WikitextCorpusConfig(FileCorpusConfig):
    """WikiText-103 or -2 raw files; a document is an article (split at ` = Title = ` lines)."""

    name: str = "wikitext103"


@dataclass
class NorlundCorpusConfig(FileCorpusConfig):
    """A dataset made by the scripts of TobiasNorlund/retro: chunks, and perhaps neighbours.

    Paths are those of its spec files; text and id fields don't matter.

    Attributes:
        tokenizer: hub name or local folder of the tokenizer that made it; `tokenizer.path`.
    """

    name: str = "norlund"
    tokenizer: str | None = setting(None, path=True)


@dataclass
class HfCorpusConfig(CorpusConfig):
    """A dataset of the Hugging Face hub, or a local one that `datasets` can load.

    Attributes:
        path: hub name or local path.
        subset: configuration name.
        hf_split: which of the dataset's splits is read.
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

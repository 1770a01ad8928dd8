"""Group `database`: the text that is searched; the run's own training split unless told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from .corpus import CorpusConfig


class Half(Enum):
    """Halves of a split's documents, in the order of a hash of their ids."""

    first = "first"
    second = "second"


@dataclass
class DatabaseConfig:
    """What neighbours are taken from; of the run's own corpus, and of others in other options.

    Attributes:
        name: the option's name.
        splits: splits of the run's own corpus that are searched.
        fraction: share of the documents, drawn by a hash of their ids, so that a smaller share is
            a part of a larger one; planted documents are not drawn.
        add: more documents, each a file or folder (.jsonl, .parquet, each perhaps .gz or .zst; a
            folder is of .txt files). What was prepared before they were added is kept and used.
    """

    name: str = "train"
    splits: list[str] = field(default_factory=lambda: ["train"])
    fraction: float = 1.0
    add: list[str] = field(default_factory=list)


@dataclass
class CorpusDatabaseConfig(DatabaseConfig):
    """Another corpus, all of it: its own splits have no part in it.

    Attributes:
        corpus: any corpus; `corpus@database.corpus=parquet` chooses another kind.
    """

    name: str = "corpus"
    splits: list[str] = field(default_factory=list)
    corpus: CorpusConfig = MISSING


@dataclass
class CorporaDatabaseConfig(DatabaseConfig):
    """The run's own training split and any number of other corpora.

    Attributes:
        corpora: by a name of one's choice: `+corpus@database.corpora.books=jsonl`.
    """

    name: str = "corpora"
    corpora: dict[str, CorpusConfig] = field(default_factory=dict)


@dataclass
class PlantedDatabaseConfig(DatabaseConfig):
    """The run's own training split and copies of evaluated documents: leakage of a known amount.

    A planted copy is another document with the same text, as leaked text is, so the document that
    it was copied from may read it.

    Attributes:
        plant_split: whose documents are planted.
        plant_half: the half of them that is planted from; nothing of the other one is.
        plant_share: share of that half, by number of documents, rounded up; a smaller share is a
            part of a larger one.
    """

    name: str = "planted"
    plant_split: str = "test"
    plant_half: Half = Half.first
    plant_share: float = 0.1

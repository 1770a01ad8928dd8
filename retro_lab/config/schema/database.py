"""Group `database`: the text that is searched, by default the run's own training split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from omegaconf import MISSING

from ..errors import UserError, problem
from .corpus import (
    SPLITS,
    CorpusConfig,
    CsvCorpusConfig,
    JsonlCorpusConfig,
    NorlundCorpusConfig,
    ParquetCorpusConfig,
    SplitConfig,
    TextCorpusConfig,
)
from .setting import setting

RESERVED_NAMES = ("own", "planted")
"""Names of database parts that no corpus may take."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_COMPRESSED = (".gz", ".zst")


class Half(Enum):
    """Halves of a split's documents, in the order of a hash of their ids."""

    first = "first"
    second = "second"


@dataclass
class DatabaseConfig:
    """The retrieval database, from splits of the run's own corpus and added files.

    Attributes:
        name: the option's name.
        splits: searched splits of the run's own corpus.
        fraction: share of the documents, drawn by a hash of their ids; a smaller share is a subset
            of a larger one. Planted documents are always kept.
        add: more documents, each a file or folder (.jsonl, .parquet, each perhaps .gz or .zst; a
            folder holds .txt files). Existing prepared data is reused.
    """

    name: str = setting("train", identity=False)
    splits: list[str] = setting(["train"])
    fraction: float = 1.0
    add: list[str] = setting([], path=True)

    def other_corpora(self) -> dict[str, CorpusConfig]:
        """Corpora besides the run's own and the added ones, by name."""
        return {}

    def added_corpora(self) -> dict[str, CorpusConfig]:
        """Corpora of `add`, in order, under names unique in the database.

        Raises:
            UserError: a path's ending names no format.
        """
        names = {*self.other_corpora(), *RESERVED_NAMES}
        found: dict[str, CorpusConfig] = {}
        for path in self.add:
            stem = Path(path).name.partition(".")[0] or "added"
            name, number = stem, 2
            while name in names:
                name, number = f"{stem}_{number}", number + 1
            names.add(name)
            found[name] = _reader_of(path)
        return found

    @property
    def planted(self) -> PlantedDatabaseConfig | None:
        """The settings of planted documents; None without any."""
        return None

    @property
    def has_training_split(self) -> bool:
        """Whether the database holds the run's whole training split."""
        return "train" in self.splits and self.fraction == 1

    @property
    def is_training_split(self) -> bool:
        """Whether the database is exactly the run's own training split."""
        more = self.other_corpora() or self.add or self.planted
        return self.has_training_split and self.splits == ["train"] and not more

    def in_words(self) -> str:
        """A description such as `10 % of the training split and of corpus (jsonl); added: more`."""
        parts = [f"the {_listed(self.splits)} split"] if self.splits else []
        parts[:] = [part.replace("train ", "training ") for part in parts]
        parts += [f"{name} ({corpus.name})" for name, corpus in self.other_corpora().items()]
        parts += [f"{name} (added)" for name in self.added_corpora()]
        share = "" if self.fraction == 1 else f"{100 * self.fraction:g} % of "
        return share + _listed(parts)

    def problems(self, prefix: str) -> Iterator[UserError]:
        if not 0 < self.fraction <= 1:
            yield problem(
                f"{prefix}fraction",
                self.fraction,
                "is the share of documents that are searched, above 0 and at most 1",
                f"{prefix}fraction=0.1, or retriever=none to search nothing",
            )
        unknown = [split for split in self.splits if split not in SPLITS]
        if unknown or len(set(self.splits)) < len(self.splits):
            yield problem(
                f"{prefix}splits",
                self.splits,
                f"must be some of {', '.join(SPLITS)}, each once",
                f"{prefix}splits=[train]",
            )
        if not (self.splits or self.add or self.other_corpora()):
            yield problem(
                f"{prefix}splits",
                self.splits,
                "with no other corpus there is nothing to search",
                f"{prefix}splits=[train], or retriever=none",
            )
        for name, corpus in self.other_corpora().items():
            where = "corpus" if isinstance(self, CorpusDatabaseConfig) else f"corpora.{name}"
            yield from _wrong_corpus(f"{prefix}{where}", name, corpus)
        if len(set(self.add)) < len(self.add):
            yield problem(
                f"{prefix}add",
                self.add,
                "names a file twice, whose chunks would be found twice",
                f"{prefix}add=[{','.join(dict.fromkeys(self.add))}]",
            )
        try:
            self.added_corpora()
        except UserError as error:
            yield error


@dataclass
class CorpusDatabaseConfig(DatabaseConfig):
    """Another corpus, with all of its documents.

    Attributes:
        corpus: any corpus; `corpus@database.corpus=parquet` chooses another kind.
    """

    name: str = setting("corpus", identity=False)
    splits: list[str] = field(default_factory=list)
    corpus: CorpusConfig = MISSING

    def other_corpora(self) -> dict[str, CorpusConfig]:
        return {"corpus": self.corpus}


@dataclass
class CorporaDatabaseConfig(DatabaseConfig):
    """The run's own training split and any number of other corpora.

    Attributes:
        corpora: corpora by a name of the user's choice: `+corpus@database.corpora.books=jsonl`.
    """

    name: str = setting("corpora", identity=False)
    corpora: dict[str, CorpusConfig] = field(default_factory=dict)

    def other_corpora(self) -> dict[str, CorpusConfig]:
        return dict(self.corpora)


@dataclass
class PlantedDatabaseConfig(DatabaseConfig):
    """The run's own training split and copies of evaluated documents: leakage of a known amount.

    A planted copy is a separate document, as leaked text is, so its original may retrieve it.

    Attributes:
        plant_split: split that planted documents are copied from.
        plant_half: half of that split that copies are taken from; the other half stays unplanted.
        plant_share: share of that half's documents, rounded up; a smaller share is a subset of a
            larger one.
    """

    name: str = setting("planted", identity=False)
    plant_split: str = "test"
    plant_half: Half = Half.first
    plant_share: float = 0.1

    @property
    def planted(self) -> PlantedDatabaseConfig | None:
        return self if self.plant_share else None

    def in_words(self) -> str:
        copies = (
            f", and copies of {100 * self.plant_share:g} % of the {self.plant_half.name} half of "
            f"the {self.plant_split} documents"
        )
        return super().in_words() + (copies if self.plant_share else "")

    def problems(self, prefix: str) -> Iterator[UserError]:
        yield from super().problems(prefix)
        if not 0 <= self.plant_share <= 1:
            yield problem(
                f"{prefix}plant_share",
                self.plant_share,
                "is a share of one half of the documents, from 0 to 1",
                f"{prefix}plant_share=0.1",
            )
        if self.plant_split not in SPLITS or self.plant_split in self.splits:
            yield problem(
                f"{prefix}plant_split",
                self.plant_split,
                f"must be a split that is not searched itself ({prefix}splits={self.splits})",
                f"{prefix}plant_split=test",
            )


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _wrong_corpus(key: str, name: str, corpus: CorpusConfig) -> Iterator[UserError]:
    """Problems of another corpus in a database."""
    if not _NAME.fullmatch(name) or name in RESERVED_NAMES:
        yield UserError(
            f"{key}: {name!r} can't be the name of a corpus",
            fix="call it by a plain word of letters and digits, not own and not planted",
        )
    if isinstance(corpus, NorlundCorpusConfig):
        yield problem(
            key,
            corpus.name,
            "brings its own chunks, so it can only be the run's own corpus",
            "corpus=norlund, or another reader here",
        )
    if corpus.split != SplitConfig():
        yield UserError(
            f"{key}.split has no effect: all documents of another corpus are searched",
            fix=f"leave {key}.split out; database.fraction takes a share of the documents",
        )


def _reader_of(path: str) -> CorpusConfig:
    """The corpus settings for a path, by its ending."""
    name = Path(path)
    suffixes = [suffix for suffix in name.suffixes if suffix not in _COMPRESSED]
    match suffixes[-1:]:
        case [".csv" | ".tsv"]:
            return CsvCorpusConfig(path=path)
        case [".jsonl" | ".json"]:
            return JsonlCorpusConfig(path=path)
        case [".parquet"]:
            return ParquetCorpusConfig(path=path)
        case []:
            return TextCorpusConfig(path=path)
    raise UserError(
        f"database.add: {path} is no .jsonl, .csv or .parquet and no folder of .txt files",
        fix="convert it, or name its reader: database=corpora +corpus@database.corpora.more=...",
    )

"""What a `database` means: which corpora it takes in, in what order, and how it is called."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import UserError
from .schema import (
    CorporaDatabaseConfig,
    CorpusConfig,
    CorpusDatabaseConfig,
    DatabaseConfig,
    JsonlCorpusConfig,
    ParquetCorpusConfig,
    PlantedDatabaseConfig,
    TextCorpusConfig,
)
from .serialise import to_plain

RESERVED_NAMES = ("own", "planted")
"""Parts of a database that are no other corpus."""

_COMPRESSED = (".gz", ".zst")
_KEY_DIGITS = 8


def is_training_split(database: DatabaseConfig) -> bool:
    """Whether it is the run's own training split, all of it and nothing else."""
    return has_training_split(database) and database.splits == ["train"] and not _extra(database)


def has_training_split(database: DatabaseConfig) -> bool:
    """Whether it holds all of the run's own training split."""
    return "train" in database.splits and database.fraction == 1


def planted(database: DatabaseConfig) -> PlantedDatabaseConfig | None:
    """The settings of planted documents; None where there are none."""
    if isinstance(database, PlantedDatabaseConfig) and database.plant_share:
        return database
    return None


def other_corpora(database: DatabaseConfig) -> dict[str, CorpusConfig]:
    """The corpora that it was set up with besides the run's own, by name."""
    match database:
        case CorpusDatabaseConfig():
            return {"corpus": database.corpus}
        case CorporaDatabaseConfig():
            return dict(database.corpora)
    return {}


def added_corpora(database: DatabaseConfig) -> dict[str, CorpusConfig]:
    """What was added afterwards, in order; a name is unlike all others of the database.

    Raises:
        UserError: a path whose ending names no format.
    """
    names = {*other_corpora(database), *RESERVED_NAMES}
    found: dict[str, CorpusConfig] = {}
    for path in database.add:
        stem = Path(path).name.partition(".")[0] or "added"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.add(name)
        found[name] = _reader_of(path)
    return found


def database_key(database: DatabaseConfig) -> str:
    """8 hex digits that name a database by its settings."""
    settings = {key: value for key, value in to_plain(database).items() if key != "name"}
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def in_words(database: DatabaseConfig) -> str:
    """For people: `10 % of the training split and of corpus (jsonl); added: more`."""
    parts = [f"the {_listed(database.splits)} split"] if database.splits else []
    parts[:] = [part.replace("train ", "training ") for part in parts]
    parts += [f"{name} ({corpus.name})" for name, corpus in other_corpora(database).items()]
    parts += [f"{name} (added)" for name in added_corpora(database)]
    words = _listed(parts)
    if database.fraction != 1:
        words = f"{100 * database.fraction:g} % of {words}"
    plants = planted(database)
    if plants is not None:
        words += (
            f", and copies of {100 * plants.plant_share:g} % of the {plants.plant_half.name} half "
            f"of the {plants.plant_split} documents"
        )
    return words


def _extra(database: DatabaseConfig) -> Any:
    return other_corpora(database) or database.add or planted(database)


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _reader_of(path: str) -> CorpusConfig:
    """The corpus of a path, by its ending."""
    name = Path(path)
    suffixes = [suffix for suffix in name.suffixes if suffix not in _COMPRESSED]
    match suffixes[-1:]:
        case [".jsonl" | ".json"]:
            return JsonlCorpusConfig(path=path)
        case [".parquet"]:
            return ParquetCorpusConfig(path=path)
        case []:
            return TextCorpusConfig(path=path)
    raise UserError(
        f"database.add: {path} is no .jsonl, no .parquet and no folder of .txt files",
        fix="convert it, or name its reader: database=corpora +corpus@database.corpora.more=...",
    )

"""How a `database` is called: by a key in names of folders, in words for people."""

from __future__ import annotations

import hashlib
import json

from .schema import DatabaseConfig
from .serialise import to_plain

_KEY_DIGITS = 8


def database_key(database: DatabaseConfig) -> str:
    """8 hex digits that name a database by its settings."""
    settings = {key: value for key, value in to_plain(database).items() if key != "name"}
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def in_words(database: DatabaseConfig) -> str:
    """For people: `10 % of the training split and of corpus (jsonl); added: more`."""
    parts = [f"the {_listed(database.splits)} split"] if database.splits else []
    parts[:] = [part.replace("train ", "training ") for part in parts]
    parts += [f"{name} ({corpus.name})" for name, corpus in database.other_corpora().items()]
    parts += [f"{name} (added)" for name in database.added_corpora()]
    words = _listed(parts)
    if database.fraction != 1:
        words = f"{100 * database.fraction:g} % of {words}"
    plants = database.planted
    if plants is not None:
        words += (
            f", and copies of {100 * plants.plant_share:g} % of the {plants.plant_half.name} half "
            f"of the {plants.plant_split} documents"
        )
    return words


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)

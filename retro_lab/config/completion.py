"""What a shell offers at the Tab key behind `python train.py`, `evaluate.py`.

Hydra's script for the shell (`python train.py -sc install=bash`) asks the command itself. Hydra's
own answer knows no options in folders, such as `experiment=recipe/k4`, and composes everything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum

from .keys import groups, known_keys, options

_FLAGS = {"-sc", "--shell-completion"}


def asked_for(argv: Sequence[str]) -> bool:
    """Whether a shell's script asks for completions."""
    return bool(_FLAGS & set(argv)) and any(word.startswith("query=") for word in argv)


def completions(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The words that may stand where the cursor is, sorted; values as `key=value`.

    Args:
        environment: COMP_LINE is the line typed, COMP_POINT the cursor's place in it.
    """
    line = environment.get("COMP_LINE", "")
    line = line[: int(environment.get("COMP_POINT", len(line)))]
    word = "" if line[-1:].isspace() or not line else line.split()[-1]
    key, equals, value = word.partition("=")
    if equals:
        before, comma, _ = value.rpartition(",")  # several values for -m
        offered = [f"{key}={before}{comma}{option}" for option in _values(key)]
    else:
        offered = [*(f"{group}=" for group in groups()), *_next_keys(word)]
    return sorted({offer for offer in offered if offer.startswith(word)})


def _values(key: str) -> list[str]:
    """The options of a group, or the values of a setting that has few."""
    if key in groups():
        return options(key)
    for kind in (known.type for known in known_keys() if known.name == key):
        if kind is bool:
            return ["true", "false"]
        if isinstance(kind, type) and issubclass(kind, Enum):
            return [member.name for member in kind]
    return []


def _next_keys(word: str) -> list[str]:
    """Settings that begin with the word, each up to its next dot."""
    found = []
    for known in known_keys():
        if known.name.startswith(word):
            head, dot, _ = known.name[len(word) :].partition(".")
            found.append(word + head + (dot or "="))
    return found

"""Rewrites a user's overrides for Hydra: quotes, keys of the user's choice, and `class`."""

from __future__ import annotations

from collections.abc import Sequence

from .text_keys import as_typed, is_free


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra reads them; flags stay unchanged.

    A key whose last part is `class` becomes `cls`, since Python reserves the word. A key that the
    user names, such as `retriever.settings.depth`, gets the prefix `++`, which permits new keys.
    """
    return [_added(argument) for argument in as_typed([_without_class(a) for a in arguments])]


def _without_class(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not equals or not key.endswith(".class"):
        return argument
    return f"{key.removesuffix('class')}cls={value}"


def _added(argument: str) -> str:
    key, equals, _ = argument.partition("=")
    return f"++{argument}" if equals and is_free(key) else argument

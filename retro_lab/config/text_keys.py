"""Quotes values of text keys, so that `corpus.path=2024_11` is not read as the number 202411.

Hydra's grammar reads such a value as a number, and OmegaConf writes the number in another spelling.
Values are quoted before Hydra reads them, also in lists and sweeps.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from antlr4 import CommonTokenStream, InputStream, ParseTreeWalker, Token
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_visitor import HydraErrorListener
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser
from hydra.grammar.gen.OverrideParserListener import OverrideParserListener

from .keys import groups, subclasses
from .schema import Config, EvaluateConfig
from .type_hints import type_hints

_NUMBER_LIKE = (OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL)
_GRAMMAR = frozenset("\\\"',()[]{}")  # characters with a meaning in Hydra's grammar
_CHOICE = "choice"  # the only function of Hydra that passes its arguments on unchanged


def as_typed(arguments: Sequence[str]) -> list[str]:
    """Quotes numbers, truth values and unsupported characters such as `~` in values of text keys.

    `null` stays null; flags and malformed uses of Hydra's grammar stay unchanged.
    """
    return [_quoted(argument) for argument in arguments]


@cache
def holds_text(key: str) -> bool:
    """Whether a key's value is text, a list of texts, or the name of a group's option."""
    group = key.partition("@")[0]
    if group in groups() or "/" in group:
        return True
    if key.startswith("hydra."):
        return str in _kinds(HydraConf, key.split(".")[1:])
    # `Any` is the type of `run` only: a path or a list of paths.
    found = _kinds(Config, key.split(".")) | _kinds(EvaluateConfig, key.split("."))
    return bool(found & {str, Any})


@cache
def is_free(key: str) -> bool:
    """Whether the user chooses a part of this key's name: it lies below a mapping."""
    path = key.split(".")
    return any(_is_mapping(path[:end]) for end in range(1, len(path)))


def _is_mapping(path: list[str]) -> bool:
    kinds = _kinds(Config, path) | _kinds(EvaluateConfig, path)
    return any(typing.get_origin(kind) is dict for kind in kinds)


def _quoted(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not value or key.startswith("-") or not holds_text(key.lstrip("+~")):
        return argument
    try:
        places = _number_like(value)
    except HydraException:  # Hydra's grammar has no ~, no =, and no letter beyond ASCII
        return argument if _GRAMMAR.intersection(value) else f'{key}="{value}"'
    for start, stop in reversed(places):
        value = f'{value[:start]}"{value[start:stop].strip()}"{value[stop:]}'
    return key + equals + value


def _number_like(value: str) -> list[tuple[int, int]]:
    """Start and end of each complete number or truth value, surrounding blanks included.

    Raises:
        HydraException: the value cannot be parsed.
    """
    lexer = OverrideLexer(InputStream(value))
    lexer.mode(OverrideLexer.VALUE_MODE)
    tokens = CommonTokenStream(lexer)
    parser = OverrideParser(tokens)
    for source in (lexer, parser):
        source.removeErrorListeners()
        source.addErrorListener(HydraErrorListener())
    found = _Values()
    ParseTreeWalker.DEFAULT.walk(found, parser.value())
    if tokens.LA(1) != Token.EOF:
        raise HydraException(f"{value} goes on behind its first value")
    return found.places


class _Values(OverrideParserListener):
    """Collects the places of numbers and truth values outside most functions' arguments."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self._functions: list[str] = []

    def enterFunction(self, ctx: Any) -> None:
        self._functions.append(ctx.getChild(0).getText())

    def exitFunction(self, ctx: Any) -> None:
        self._functions.pop()

    def enterPrimitive(self, ctx: Any) -> None:
        tokens = [child.symbol for child in ctx.getChildren()]
        tokens = [token for token in tokens if token.type != OverrideLexer.WS]
        as_it_is = all(name == _CHOICE for name in self._functions)
        if as_it_is and len(tokens) == 1 and tokens[0].type in _NUMBER_LIKE:
            self.places.append((ctx.start.start, ctx.stop.stop + 1))


def _kinds(kind: Any, path: list[str]) -> set[Any]:
    """The possible types of a path below a type, over all options."""
    options = [kind, *typing.get_args(kind)]
    return set(options) if not path else {k for o in options for k in _below(o, path)}


def _below(kind: Any, path: list[str]) -> Iterator[Any]:
    if typing.get_origin(kind) is dict:  # the user chooses the first part
        value = typing.get_args(kind)[1]
        yield from () if value is Any else _kinds(value, path[1:])
    elif dataclasses.is_dataclass(kind):
        for schema in (typing.cast(type, kind), *subclasses(typing.cast(type, kind))):
            hints = type_hints(schema)
            if path[0] in hints:
                yield from _kinds(hints[path[0]], path[1:])

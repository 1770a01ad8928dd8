"""Parses a command's `key=value` arguments into a dataclass, and runs the command.

Each field of the dataclass is a key, and its type says how to read the value. A `bool` is on, off,
true or false; a `tuple[X, ...]` may be given several times; a name that begins with `--` is a flag
without a value. The field `words` collects the other arguments. `train` and `evaluate` take Hydra's
overrides instead.
"""

from __future__ import annotations

import difflib
import math
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from .console import print_error
from .errors import EXIT_USER_ERROR, UserError
from .type_hints import type_hints
from .wrapping import show

T = TypeVar("T")
_SWITCH = {"on": True, "off": False, "true": True, "false": False}
_MOST = 2**63 - 1  # larger integers overflow an int64 array


@dataclass(frozen=True)
class Key:
    """The name, limits and example of a key, beyond its type.

    Attributes:
        name: the name on the command line, if it differs from the field's name.
        least: smallest number.
        above: a number that the value must exceed.
        most: largest number.
        choices: all allowed values.
        example: a value for messages.
        blank: whether the value may be empty.
        read: converts the text to a value; its ValueError states what was expected.
    """

    name: str | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: Sequence[str] = ()
    example: str = "..."
    blank: bool = False
    read: Callable[[str], Any] | None = None

    def value(self, text: str, kind: type) -> Any:
        """Converts `text` to a value of type `kind`.

        Raises:
            ValueError: the text does not fit; the message states what was expected.
        """
        if self.read is not None:
            return self.read(text)
        if kind not in (int, float):
            return _SWITCH[text] if kind is bool else kind(text)
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        end = _MOST if kind is int else sys.float_info.max
        least, most = -end if self.least is None else self.least, self.most or end
        if not least <= number <= most or (self.above is not None and number <= self.above):
            bounds = {"of at least": self.least, "above": self.above, "at most": self.most}
            told = " and ".join(f"{word} {n}" for word, n in bounds.items() if n is not None)
            raise ValueError(f"{'a whole number' if kind is int else 'a number'} {told}".rstrip())
        return number


def key(default: Any = MISSING, **about: Any) -> Any:
    """A dataclass field with a `Key`.

    Args:
        default: value of an optional key.
        about: attributes of `Key`.
    """
    return field(default=default, metadata={"key": Key(**about)})


def keys_of(schema: Any) -> dict[str, tuple[str, Key]]:
    """Maps each command-line name of a dataclass's keys to its field name and `Key`."""
    found = ((one.name, one.metadata.get("key", Key())) for one in fields(schema))
    return {about.name or name: (name, about) for name, about in found}


def parse(argv: Sequence[str], schema: type[T], command: str) -> T:
    """Parses the arguments into an instance of a dataclass.

    Args:
        command: the command's name, for messages.

    Raises:
        UserError: a key is unknown, missing or given twice, or a value does not fit.
    """
    known, hints = keys_of(schema), type_hints(schema)
    words = known.pop("words", None)
    given: dict[str, Any] = {}
    for argument in argv:
        name, equals, text = argument.partition("=")
        if words and name not in known and _is_word(argument):
            given["words"] = (*given.get("words", ()), Path(argument))
            continue
        if name not in known:
            raise _unknown(name, list(known), command)
        own, about = known[name]
        many = typing.get_origin(hints[own]) is tuple
        if own in given and not many:
            raise UserError(f"{name} is given twice", fix=f"leave out {argument}")
        flag = name.startswith("--") and not equals
        value = True if flag else _value(name, text, _kind(hints[own]), about)
        given[own] = (*given.get(own, ()), value) if many else value
    for name, (own, about) in known.items():
        if own not in given and not _optional(schema, own):
            raise UserError(f"{command} needs {name}", fix=f"add {name}={about.example}")
    return schema(**given)


def run(
    argv: Sequence[str],
    usage: str,
    command: Callable[[Sequence[str]], int | None],
    *,
    bare: bool = False,
) -> int:
    """Runs a command and returns its exit code; prints its help or a user's mistake.

    Args:
        usage: the help text.
        command: the function to run; returns an exit code, None for 0.
        bare: whether the command runs without arguments; otherwise empty arguments print the help.
    """
    if {"--help", "-h"} & set(argv) or not (argv or bare):
        show(usage, sys.stdout)
        return 0 if argv else EXIT_USER_ERROR
    try:
        return command(argv) or 0
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR


def _is_word(argument: str) -> bool:
    """Whether the argument is neither `key=value` nor a flag; an existing path may contain `=`."""
    if "=" not in argument:
        return not argument.startswith("-")
    try:
        return Path(argument).exists()
    except OSError:  # not a valid file name, such as one that is too long
        return False


def _optional(schema: Any, own: str) -> bool:
    one = schema.__dataclass_fields__[own]
    return not one.default is one.default_factory is MISSING


def _unknown(name: str, known: Sequence[str], command: str) -> UserError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    told = [match if match.startswith("--") else f"{match}=..." for match in near]
    fix = f"did you mean {told[0]}?" if told else f"keys: {', '.join(known)}"
    return UserError(f"{name} is not a key of {command}", fix=fix)


def _kind(hint: Any) -> type:
    """The type of one value: X for `X | None` and `tuple[X, ...]`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is tuple:
        return next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    return hint


def _value(name: str, text: str, kind: type, about: Key) -> Any:
    if not text and not about.blank:
        raise UserError(f"{name} has no value", fix=f"{name}={about.example}")
    choices = about.choices or (_SWITCH if kind is bool else ())
    if choices and text not in choices:
        options = " or ".join(f"{name}={choice}" for choice in choices)
        raise UserError(f"{name}={text} is none of its values", fix=options)
    try:
        return about.value(text, kind)
    except ValueError as error:
        fix = f"{name}={about.example}"
        if about.example == "...":
            fix = f"leave out {name}= for its default"
        raise UserError(f"{name}={text}: expected {error}", fix=fix) from None

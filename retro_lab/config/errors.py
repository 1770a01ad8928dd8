"""The exceptions for a user's mistakes, printed as a message without a traceback.

Messages mask passwords, and settings that would store one are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

EXIT_USER_ERROR = 2

_USER_AND_PASSWORD = re.compile(r"//[^/?#\s]+@")


class UserError(Exception):
    """A problem that the user can fix; commands print it and exit with code 2.

    Args:
        message: what is wrong, with key, file and line where known.
        fix: what to do about it, one sentence.
    """

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __reduce__(self) -> tuple[type[UserError], tuple]:
        return type(self), (self.message, self.fix)  # exceptions cross process boundaries

    def __str__(self) -> str:
        return self.message if self.fix is None else f"{self.message}\n  fix: {self.fix}"


class ConfigError(UserError):
    """All problems of a configuration in one exception, so that a user can fix them together."""

    def __init__(self, problems: list[UserError]) -> None:
        self.problems = problems
        if len(problems) == 1:
            super().__init__(problems[0].message, problems[0].fix)
            return
        lines = [f"the configuration has {len(problems)} problems:"]
        lines += [f"- {problem}" for problem in problems]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[UserError]]]:
        return ConfigError, (self.problems,)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, its cause, the cause's cause, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def problem(key: str, value: object, rule: str, fix: str) -> UserError:
    """The error for a setting that breaks a rule, in the common form of all such errors."""
    return UserError(f"{key}={as_text(value)}: {rule}", fix=fix)


def as_text(value: object) -> str:
    """A value as typed on the command line."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(as_text(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(getattr(value, "name", value))


def masked(text: str) -> str:
    """The text with user and password in addresses replaced by `***`."""
    return _USER_AND_PASSWORD.sub("//***@", text)


def refuse_passwords(values: Iterable[str]) -> None:
    """Refuses an address with a user or password, alone or in `key=value`.

    Raises:
        UserError: with the password masked.
    """
    for value in values:
        if masked(value) != value:
            raise UserError(
                f"{masked(value)}: an address with a password would stand in config.yaml, "
                "results.json and W&B",
                fix="leave it out; the key of a search service is read from RETRO_LAB_API_KEY",
            )


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def registered(table: Mapping[type, str], config: Any, group: str, what: str, file: str) -> str:
    """The `module:class` that a table registers for a configuration's class.

    Args:
        group: of the configuration, for the message.
        what: the kind of class that is registered.
        file: of the table.

    Raises:
        UserError: nothing is registered for this class.
    """
    target = table.get(type(config))
    if target is None:
        known = ", ".join(sorted(kind.__name__ for kind in table))
        raise UserError(
            f"{group}={config.name}: no {what} is registered for {type(config).__name__}",
            fix=f"use one of {known}, or add a line to {file}",
        )
    return target

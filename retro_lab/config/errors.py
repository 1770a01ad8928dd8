"""The one exception that a user's mistake raises: a message for a person, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator

EXIT_USER_ERROR = 2


class UserError(Exception):
    """A problem that the user can fix; commands print it and exit with code 2.

    Args:
        message: what is wrong, naming the key, file and line where they are known.
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
    """Every problem of one configuration, collected, so that a user fixes them in one go."""

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
    """The exception, what caused it, what caused that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

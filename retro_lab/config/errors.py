"""The one exception that a user's mistake raises: a message for a person, never a traceback."""

from __future__ import annotations

import errno

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


# What a machine refuses, whoever asks: no permission, no space, a file where a folder should be.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}


def refusal(error: BaseException) -> UserError | None:
    """The message for a file or folder that the machine refuses; None for any other exception."""
    if not isinstance(error, OSError) or error.errno not in _REFUSALS or error.filename is None:
        return None
    return UserError(
        f"{error.filename}: {error.strerror}",
        fix="make room and permission there; or runs_dir=... and store.dir=... put what train.py "
        "writes elsewhere, and a copy of a run elsewhere can be evaluated",
    )


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

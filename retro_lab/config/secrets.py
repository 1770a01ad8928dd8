"""Passwords in addresses: refused before anything prints or stores them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import UserError

_USER_AND_PASSWORD = re.compile(r"//[^/?#\s]+@")


def masked(text: str) -> str:
    """The text without the user and password of an address in it."""
    return _USER_AND_PASSWORD.sub("//***@", text)


def refuse_passwords(values: Iterable[str]) -> None:
    """Refuses an address with a user or password, as a value or in a `key=value`.

    Raises:
        UserError: without the password.
    """
    for value in values:
        if masked(value) != value:
            raise UserError(
                f"{masked(value)}: an address with a password would stand in config.yaml, "
                "results.json and W&B",
                fix="leave it out; the key of a search service is read from RETRO_LAB_API_KEY",
            )

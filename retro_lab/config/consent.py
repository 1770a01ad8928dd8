"""Which code outside this package may be imported: what the user typed or listed in advance.

A stored run may come from a stranger, so a class that only its configuration names is not allowed.
"""

from __future__ import annotations

import os

TRUST = "RETRO_LAB_TRUST"
"""Environment variable: import paths that stored runs may name, separated by commas."""

_typed: set[str] = set()


def allow(path: str) -> None:
    """Allows an import path in this process: its user typed it."""
    _typed.add(path)


def is_allowed(path: str) -> bool:
    """Whether the code of an import path may be imported."""
    listed = map(str.strip, os.environ.get(TRUST, "").split(","))
    return path in _typed or path in listed

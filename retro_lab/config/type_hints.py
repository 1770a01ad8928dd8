"""Type hints of classes, evaluated once: reading the files of a run asks for them often."""

from __future__ import annotations

from functools import cache
from typing import Any, get_type_hints


@cache
def type_hints(kind: type) -> dict[str, Any]:
    """The hints of a class, by field, those of its bases included; not to be changed."""
    return get_type_hints(kind)

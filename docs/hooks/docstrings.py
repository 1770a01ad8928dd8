"""What a class's docstring says: its first paragraph, and the meaning of each attribute."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any

import griffe


def summary(documented: Any) -> str:
    """First paragraph of the docstring of a class or module, on one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


@cache
def meanings(cls: type) -> dict[str, str]:
    """Meaning of each attribute, on one line; those of base classes are included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = base.__dict__.get("__doc__") or ""
        for section in griffe.Docstring(inspect.cleandoc(text)).parse("google", warnings=False):
            if section.kind is griffe.DocstringSectionKind.attributes:
                found |= {item.name: " ".join(item.description.split()) for item in section.value}
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)

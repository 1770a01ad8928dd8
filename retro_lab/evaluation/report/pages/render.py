"""HTML pages and Markdown files, rendered from the jinja2 templates in `templates/`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from retro_lab.config.files import replacing


def render(template: str, **values: Any) -> str:
    """Renders a template; HTML templates escape text."""
    return _environment().get_template(template).render(values)


def write(path: Path, text: str) -> None:
    """Writes a page atomically, with the same bytes on every system."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("retro_lab.evaluation.report.pages"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

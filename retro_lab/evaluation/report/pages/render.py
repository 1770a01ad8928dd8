"""HTML pages and Markdown files, rendered from the jinja2 templates in `templates/`.

Style sheets and scripts in `static/` are put into the page, so a page loads nothing.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from retro_lab.config.files import replacing

_PACKAGE = "retro_lab.evaluation.report.pages"


def render(template: str, **values: Any) -> str:
    """Renders a template; HTML templates escape text, and `tojson` is safe in a script."""
    return _environment().get_template(template).render(values)


def write(path: Path, text: str) -> None:
    """Writes a page atomically, with the same bytes on every system."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["asset"] = _asset
    # A NaN is no JSON: it is an error here rather than in a browser.
    made.policies["json.dumps_kwargs"] = {
        "sort_keys": True,
        "allow_nan": False,
        "ensure_ascii": False,
        "separators": (",", ":"),
    }
    return made


@cache
def _asset(name: str) -> Markup:
    """The text of a file of `static/`, which is ours or checked, and so not escaped."""
    return Markup((files(_PACKAGE) / "static" / name).read_text(encoding="utf-8"))

"""The page docs/experiments.md: its figures' folder, its tables, and the command of one figure."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
FIGURES = DOCS / "figures"
_END = "<!-- end -->"


def with_table(page: str, name: str, table: str) -> str:
    """A page, what stands between the markers of an experiment replaced by a table."""
    begin = f"<!-- figures of {name} -->"
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(_END)}", re.DOTALL)
    return between.sub(lambda _: f"{begin}\n\n{table}\n{_END}", page)


def change_page(change: Callable[[str], str]) -> None:
    """Writes docs/experiments.md anew from what it holds."""
    page = DOCS / "experiments.md"
    page.write_text(change(page.read_text(encoding="utf-8")), encoding="utf-8")


def command(
    name: str,
    about: str | None,
    measure: Callable[[Path], Any],
    draw: Callable[[Any, Path], Path],
    table: Callable[[Any], str],
) -> None:
    """Measures the run that the command line names, then draws what is measured.

    Args:
        name: of the experiment, of its record benchmarks/<name>.json, and of its table.
        about: help for the command.
        measure: of the directory of a finished run.
        draw: of the record, into a folder.
        table: of the record, in Markdown.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="directory of a finished run")
    parser.add_argument("--draw", action="store_true", help="only draw what is measured")
    asked = parser.parse_args()
    record = HERE / f"{name}.json"
    if asked.run is not None:
        record.write_text(json.dumps(measure(asked.run), indent=1) + "\n")
    elif not asked.draw:
        parser.error("give a run, or --draw")
    known = json.loads(record.read_text())
    print(draw(known, FIGURES))
    change_page(lambda page: with_table(page, name, table(known)))

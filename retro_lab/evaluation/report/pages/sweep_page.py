"""report.html: many runs on one page, with tables to sort, figures, and what is unfinished."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from ..sweep import SweepRow
from ..sweep_tables import Part, in_words, part_tables
from ..table import NONE, Table
from .render import render, write
from .run_facts import names_of
from .sweep_figures import sweep_figures

SWEEP_PAGE = "report.html"
_LINK = Markup('<a href="{}">{}</a>')


def write_sweep_page(
    shown: Sequence[Part],
    counts: Sequence[str],
    left: Table | None,
    folder: Path,
    sort: str | None = None,
) -> Path:
    """Writes report.html atomically into a folder and returns its path.

    Args:
        shown: the finished runs, in parts with comparable figures.
        counts: how many runs are finished, failed and pending, in words.
        left: the unfinished runs, if there are any.
        sort: key that the tables of groups are sorted by.
    """
    path, rows = folder / SWEEP_PAGE, [row for part in shown for row in part.rows]
    page = render(
        "sweep.html.j2",
        title=f"{len(rows)} runs" if len(rows) != 1 else "1 run",
        counts=counts,
        figures=sweep_figures(rows),
        parts=[(part.name, _tables(part, folder, sort), in_words(part)) for part in shown],
        left=left,
    )
    write(path, page)
    return path


def _tables(part: Part, folder: Path, sort: str | None) -> list[Table]:
    """The tables of a part; that of the runs begins with a link to each run."""
    runs, *groups = part_tables(part, sort)
    links = [_link(row, folder) for row in part.rows]
    rows = [[link, *cells] for link, cells in zip(links, runs.rows, strict=True)]
    return [replace(runs, head=["run", *runs.head], rows=rows, names=runs.names + 1), *groups]


def _link(row: SweepRow, folder: Path) -> str:
    """A link by the run's name to the page of its results, or to their directory without one."""
    if row.folder is None:
        return NONE
    page = row.folder / "index.html"
    target = os.path.relpath(page if page.is_file() else row.folder, folder)
    return _LINK.format(Path(target).as_posix(), names_of(row.folder)[0])

"""index.html of a directory of results: a run's, or that of another evaluation or database."""

from __future__ import annotations

import os
from pathlib import Path

from retro_lab.evaluation.records.results import RESULTS_FILE, Results
from retro_lab.evaluation.report.pages.run_facts import Link
from retro_lab.evaluation.report.pages.run_page import PAGE_FILE, write_run_page

from .directory import EVALUATIONS, RunDirectory


def write_page(out: RunDirectory) -> None:
    """Writes the page of a directory that holds results, with links to the run's others.

    Raises:
        UserError: results.json is missing or cannot be read.
    """
    write_run_page(Results.load(out.results_file), out.path, _others(out))


def _others(out: RunDirectory) -> list[Link]:
    """Links to the other evaluations of the same run and database that have results."""
    base = out.base.path
    found = [base / RESULTS_FILE, *sorted(base.glob(f"{EVALUATIONS}/*/{RESULTS_FILE}"))]
    return [
        _link(file.parent, out.path, "the run's own evaluation" if file.parent == base else "")
        for file in found
        if file.is_file() and file.parent != out.path
    ]


def _link(folder: Path, out: Path, what: str) -> Link:
    href = Path(os.path.relpath(folder / PAGE_FILE, out)).as_posix()
    return Link(folder.name, href, what or "another evaluation of this run")

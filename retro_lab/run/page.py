"""index.html of a directory of results: a run's, or that of another evaluation or database."""

from __future__ import annotations

from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.run_page import write_run_page

from .directory import RunDirectory


def write_page(out: RunDirectory) -> None:
    """Writes the page of a directory that holds results.

    Raises:
        UserError: results.json is missing or cannot be read.
    """
    write_run_page(Results.load(out.results_file), out.path)

"""audit.html: all checks, bpb(alpha) and the leaked documents on one page that loads nothing."""

from __future__ import annotations

from pathlib import Path

from retro_lab.evaluation.report.pages.figures import Figure, Series
from retro_lab.evaluation.report.pages.render import render, write
from retro_lab.evaluation.report.table import Table, number

from .audit import Audit
from .checks import QUESTIONS
from .exports import FILES, figure_text, outcome

PAGE = "audit.html"
_MOST = 200  # leaked documents that the page names


def write_page(audit: Audit, folder: Path) -> Path:
    """Writes the page atomically into a folder, and returns its path."""
    path = folder / PAGE
    checks = [
        (QUESTIONS[check.name], outcome(check), _figure(check.figure, check.measures), check)
        for check in audit.checks
    ]
    page = render(
        "audit.html.j2",
        title=f"Audit of {audit.subject}",
        described=described(audit),
        failed=[check for check in audit.checks if check.passed is False],
        checks=checks,
        figures=_figures(audit),
        curve=curve_table(audit),
        leaked=_leaked(audit),
        files=Table((), list(FILES.items()), "Files beside this page", names=2),
        settings=_settings(audit),
    )
    write(path, page)
    return path


def described(audit: Audit) -> str:
    """The scored text and its bits per byte, in a sentence."""
    bpb = "not finite" if audit.bpb is None else f"{audit.bpb:.4f}"
    return (
        f"{audit.text}: {audit.documents:,} documents, {audit.bytes:,} bytes, {audit.tokens:,} "
        f"scored tokens; {bpb} bits per byte."
    )


def checks_table(audit: Audit) -> Table:
    """The checks for a terminal: outcome and figure, a row each."""
    rows = [
        [check.name, outcome(check), figure_text(check.figure), check.measures]
        for check in audit.checks
    ]
    return Table(["check", "outcome", "figure", "which is"], rows, names=2)


def curve_table(audit: Audit) -> Table:
    """bpb(alpha) with its intervals."""
    head = ["alpha", "bits per byte", "low", "high", "chunks", "bytes", "documents"]
    rows = [
        [
            f"{point.alpha:g}",
            *(number(value, ".4f") for value in (point.bpb, point.low, point.high)),
            *(f"{value:,}" for value in (point.chunks, point.bytes, point.documents)),
        ]
        for point in audit.curve
    ]
    title = "Bits per byte on chunks of 256 bytes with r(C) at most alpha; 95 % intervals"
    return Table(head, rows, title)


def _figure(figure: float | None, measures: str) -> str:
    return "" if figure is None else f"{figure_text(figure)} ({measures})"


def _figures(audit: Audit) -> list[Figure]:
    """The curve, if there are several points."""
    if len(audit.curve) < 2:
        return []
    series = Series(
        "scorer",
        [point.bpb for point in audit.curve],
        0,
        [point.low for point in audit.curve],
        [point.high for point in audit.curve],
        band=True,
    )
    alphas = [point.alpha for point in audit.curve]
    title = "Bits per byte on chunks that share at most r(C) with the training text"
    note = "The area is the 95 % interval over documents. A small alpha keeps other, harder text."
    return [Figure(title, alphas, "largest r(C) kept", "bits per byte", [series], note=note)]


def _leaked(audit: Audit) -> Table | None:
    if not audit.leaked:
        return None
    shown = audit.leaked[:_MOST]
    rows = [[e.id, f"{e.share:.1%}", str(e.longest_run), f"{e.bytes:,}"] for e in shown]
    more = f", the first {_MOST}" if len(audit.leaked) > _MOST else ""
    title = f"{len(audit.leaked):,} documents that stand in the training text{more}"
    return Table(["document", "in long runs", "longest run (to 256)", "bytes"], rows, title)


def _settings(audit: Audit) -> Table:
    rows = [[name, str(value)] for name, value in vars(audit.settings).items()]
    return Table((), rows, "Settings of the checks", names=2)

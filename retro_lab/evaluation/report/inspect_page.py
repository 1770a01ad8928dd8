"""The inspection page: text coloured by the gain of each token, with the neighbours beside it.

Modelled on the figures of RETRO, appendix E. The page is one HTML file that needs no other file;
the same documents give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from markupsafe import Markup

from . import pages
from .inspect_data import InspectedDocument, Span
from .table import NONE, Table

STEPS = 5  # shades of each colour
FULL_NATS = 4.0  # the darkest shade stands for this gain, or more
_COLOURS = {"p": (0, 114, 178), "n": (213, 94, 0)}
"""RGB of gains (p) and losses (n): Okabe and Ito's blue and vermilion."""


def write_page(
    documents: Sequence[InspectedDocument],
    path: Path,
    *,
    title: str,
    description: str,
    minimum_run: int,
) -> None:
    """Writes the page atomically.

    Args:
        title: heading, such as the run's name.
        description: a sentence about the comparison.
        minimum_run: tokens of the shortest marked run, for the legend.
    """
    page = render(documents, title=title, description=description, minimum_run=minimum_run)
    pages.write(path, page)


def render(
    documents: Sequence[InspectedDocument], *, title: str, description: str, minimum_run: int
) -> str:
    """The page as HTML."""
    return pages.render(
        "inspect.html.j2",
        title=title,
        description=description,
        minimum_run=minimum_run,
        documents=documents,
        contents=_contents(documents),
        leaks=any(s.leaked for d in documents for c in d.chunks for s in c.spans),
        shades={
            f"{sign}{step}": f"rgba({red},{green},{blue},{step * 0.13:.2f})"
            for sign, (red, green, blue) in _COLOURS.items()
            for step in range(1, STEPS + 1)
        },
        steps=STEPS,
        full_nats=f"{FULL_NATS:g}",
        marks_of=_marks,
        runs_of=_runs,
    )


def _contents(documents: Sequence[InspectedDocument]) -> Table:
    rows = [
        [
            Markup('<a href="#d{}">{}</a>').format(number, document.name),
            f"{len(document.chunks):,}",
            f"{document.num_bytes:,}",
            f"{document.gain:+,.1f}",
            _bits_per_byte(document),
        ]
        for number, document in enumerate(documents)
    ]
    return Table(["document", "chunks", "bytes", "nats gained", "bits per byte gained"], rows)


def _bits_per_byte(document: InspectedDocument) -> str:
    if document.num_bytes == 0:
        return NONE
    return f"{document.gain / math.log(2) / document.num_bytes:+.4f}"


def _marks(span: Span) -> str:
    """CSS classes of a span: its shade, `m` if shared, `d` if leaked."""
    marks = [shade(span.gain or 0.0), "m" * span.shared, "d" * span.leaked]
    return " ".join(filter(None, marks))


def _runs(spans: Iterable[Span]) -> Iterator[tuple[bool, str]]:
    """Yields (shared, text) for each maximal run of spans that agree in `shared`."""
    for shared, run in groupby(spans, key=lambda span: span.shared):
        yield shared, "".join(span.text for span in run)


def shade(gain: float) -> str:
    """CSS class of a gain: "p1" to "p5" for gains, "n1" to "n5" for losses, "" near zero."""
    step = min(STEPS, round(abs(gain) / FULL_NATS * STEPS))
    return f"{'p' if gain > 0 else 'n'}{step}" if step else ""

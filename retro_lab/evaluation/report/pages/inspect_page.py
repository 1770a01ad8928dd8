"""The inspection page: text coloured by the gain of each token, with what was read beside it.

Modelled on the figures of RETRO, appendix E. The page is one HTML file that needs no other file;
the same documents give the same bytes. Figures of tokens and chunks stand in one JSON script, by
which rows are sorted and filtered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from retro_lab.memory.sorted_contexts import LONGEST

from ...measure.gain import MATCHING_RUN
from ..table import NONE, Table
from . import render as pages
from .inspect_data import MINIMUM_RUN, InspectedChunk, InspectedDocument
from .inspect_text import Span

STEPS = 5  # shades of each colour
FULL_NATS = 4.0  # the darkest shade stands for this gain, or more
_COLOURS = {"p": (0, 114, 178), "n": (213, 94, 0)}
"""RGB of gains (p) and losses (n): Okabe and Ito's blue and vermilion."""


class Words(NamedTuple):
    """What a page says about the text beside a document.

    Attributes:
        reads: what helps or hurts.
        marked: what is underlined.
        beside: what the text beside a chunk is.
        none: said beside a chunk without such text.
        first: said beside a document's first chunk without it.
    """

    reads: str
    marked: str
    beside: str
    none: str
    first: str


NEIGHBOURS = Words(
    "retrieval",
    f"run of {MINIMUM_RUN} tokens or more shared with a neighbour beside it",
    "the neighbours that were read while it was predicted",
    "no neighbours: none was found",
    "no neighbours: a document's first chunk reads none",
)
_NO_DOCUMENT = f"no document: no token stands after the same {MATCHING_RUN} tokens in the database"
MEMORY = Words(
    "the memory",
    f"token after the same {MATCHING_RUN} tokens or more as in a document beside it; there, the "
    "longest match",
    "the documents of the database that its tokens lean on most",
    _NO_DOCUMENT,
    _NO_DOCUMENT,
)
_NO_CONTEXTS = "no document: this memory reads no contexts of a database"
OTHER_MEMORY = MEMORY._replace(none=_NO_CONTEXTS, first=_NO_CONTEXTS)
"""Of states or of the own document alone."""


def write_page(
    documents: Sequence[InspectedDocument],
    path: Path,
    *,
    title: str,
    description: str,
    words: Words = NEIGHBOURS,
) -> None:
    """Writes the page atomically.

    Args:
        title: heading, such as the run's name.
        description: a sentence about the comparison.
        words: about the text beside the documents.
    """
    page = render(documents, title=title, description=description, words=words)
    pages.write(path, page)


def render(
    documents: Sequence[InspectedDocument],
    *,
    title: str,
    description: str,
    words: Words = NEIGHBOURS,
) -> str:
    """The page as HTML."""
    data = _data(documents)
    return pages.render(
        "inspect.html.j2",
        title=title,
        description=description,
        words=words,
        minimum_run=MINIMUM_RUN,
        longest=LONGEST,
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
        overlaps=any(c.overlap is not None for d in documents for c in d.chunks),
        data=data,
        families=sorted({name.partition(":")[0] for name in data["experts"]}),
    )


def _data(documents: Sequence[InspectedDocument]) -> dict[str, Any]:
    """The figures of the page: a row for each chunk, in its order, and the names of experts."""
    chunks = [chunk for document in documents for chunk in document.chunks]
    spans = [span for chunk in chunks for span in chunk.spans]
    names = sorted({span.expert for span in spans if span.expert})
    return {"experts": names, "rows": [_row(chunk, names) for chunk in chunks]}


def _row(chunk: InspectedChunk, names: Sequence[str]) -> dict[str, Any]:
    """The figures of a chunk and of its spans.

    `gains` are nats, null for what was not scored. With a memory, `shares` are percent of the
    probability that it gave, and `most` the number of the expert that gave most of it, -1 for none.
    """
    row: dict[str, Any] = {
        "gain": round(chunk.gain, 2),
        "overlap": None if chunk.overlap is None else round(chunk.overlap, 4),
        "gains": [None if span.gain is None else round(span.gain, 2) for span in chunk.spans],
    }
    if any(span.share is not None for span in chunk.spans):
        row["shares"] = [round(100 * (span.share or 0.0)) for span in chunk.spans]
        row["most"] = [names.index(s.expert) if s.expert else -1 for s in chunk.spans]
    return row


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
    head = ["document", "chunks", "bytes", "nats gained", "bits per byte gained"]
    return Table(head, rows, "Documents")


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

"""One HTML page that opens offline: text coloured by what retrieval gained, neighbours beside it.

After the figures in the paper's appendix (RETRO, appendix E). No script, no font, no image: all
that the page needs is in it, and the same documents give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from retro_lab.config.files import replacing

from .inspect_data import InspectedChunk, InspectedDocument, ReadNeighbour, Span

STEPS = 5  # shades of each colour
FULL_NATS = 4.0  # the darkest shade stands for this gain, or more

_STYLE = """
:root { color-scheme: light; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --mark: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 96rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .25rem; overflow-wrap: anywhere; }
p { margin: .25rem 0 .75rem; max-width: 60rem; }
.soft, .head { color: var(--soft); font-size: .85rem; }
a { color: #0550ae; }
.legend { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .25rem 1.5rem;
  align-items: center; padding: .5rem 0; background: #fff; border-bottom: 1px solid var(--line);
  font-size: .85rem; }
.scale { display: inline-flex; vertical-align: middle; margin: 0 .4rem; }
.scale i { width: 1.1rem; height: 1rem; }
table { border-collapse: collapse; font-size: .9rem; }
td, th { padding: .15rem 1.2rem .15rem 0; text-align: right; vertical-align: bottom; }
td:first-child, th:first-child { text-align: left; overflow-wrap: anywhere; min-width: 8rem; }
.row { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 0 1.5rem;
  padding: .75rem 0; border-top: 1px solid var(--line); }
.head { margin-bottom: .25rem; overflow-wrap: anywhere; }
.head b { color: var(--ink); font-weight: 600; }
.text { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4;
  font: 13px/1.65 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.neighbour { padding-left: .75rem; border-left: 3px solid var(--line); margin-bottom: .75rem; }
.neighbour .text { font-size: 12px; line-height: 1.5; }
.next { opacity: .72; }
.next::before { content: "\\2026 and what follows it"; display: block; color: var(--soft);
  font: italic 11px system-ui, sans-serif; }
.m { text-decoration: underline 2px var(--mark); text-underline-offset: 3px; }
.d { border-bottom: 1px dotted var(--ink); }
@media (max-width: 60rem) { .row { grid-template-columns: minmax(0, 1fr); gap: .75rem; } }
"""
_BETTER, _WORSE = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion


def write_page(
    documents: Sequence[InspectedDocument],
    path: Path,
    *,
    title: str,
    description: str,
    minimum_run: int,
) -> None:
    """Write the page atomically.

    Args:
        title: heading, such as the run's name.
        description: a sentence on what was compared.
        minimum_run: tokens of the shortest run that was marked, for the legend.
    """
    page = render(documents, title=title, description=description, minimum_run=minimum_run)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def render(
    documents: Sequence[InspectedDocument], *, title: str, description: str, minimum_run: int
) -> str:
    """The page as HTML."""
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(description)}</p>",
        _contents(documents),
        _legend(minimum_run, _knows_leaks(documents)),
        *(_document(number, document) for number, document in enumerate(documents)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{_shades()}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _shades() -> str:
    """Classes p1 to p5 for a gain, n1 to n5 for a loss."""
    lines = []
    for name, (red, green, blue) in (("p", _BETTER), ("n", _WORSE)):
        for step in range(1, STEPS + 1):
            colour = f"rgba({red},{green},{blue},{step * 0.13:.2f})"
            lines.append(f".{name}{step} {{ background: {colour}; }}")
    return "\n".join(lines) + "\n"


def _knows_leaks(documents: Iterable[InspectedDocument]) -> bool:
    return any(s.leaked for d in documents for c in d.chunks for s in c.spans)


def _legend(minimum_run: int, leaks: bool) -> str:
    worse = "".join(f'<i class="n{step}"></i>' for step in range(STEPS, 0, -1))
    better = "".join(f'<i class="p{step}"></i>' for step in range(1, STEPS + 1))
    parts = [
        f'<span>retrieval hurts<span class="scale">{worse}<i></i>{better}</span>helps '
        f"(darkest: {FULL_NATS:g} nats or more; hover for the figure)</span>",
        f'<span><span class="m">underlined</span>: run of {minimum_run} tokens or more '
        "shared with a neighbour beside it</span>",
    ]
    if leaks:
        parts.append(
            f'<span><span class="d">dotted</span>: run of {minimum_run} tokens or more that '
            "stands anywhere in the training text</span>"
        )
    return f'<div class="legend">{"".join(parts)}</div>'


def _contents(documents: Sequence[InspectedDocument]) -> str:
    rows = [
        f'<tr><td><a href="#d{number}">{escape(document.name)}</a></td>'
        f"<td>{len(document.chunks):,}</td><td>{document.num_bytes:,}</td>"
        f"<td>{document.gain:+,.1f}</td><td>{_bits_per_byte(document)}</td></tr>"
        for number, document in enumerate(documents)
    ]
    return (
        "<table><tr><th>document</th><th>chunks</th><th>bytes</th><th>nats gained</th>"
        f"<th>bits per byte gained</th></tr>{''.join(rows)}</table>"
    )


def _bits_per_byte(document: InspectedDocument) -> str:
    if document.num_bytes == 0:
        return "-"
    return f"{document.gain / math.log(2) / document.num_bytes:+.4f}"


def _document(number: int, document: InspectedDocument) -> str:
    head = (
        f'<h2 id="d{number}">{escape(document.name)}</h2>\n<p class="soft">The text, a chunk a '
        "row, and beside it the neighbours that were read while it was predicted.</p>"
    )
    return "\n".join([head, *(_chunk(chunk) for chunk in document.chunks)])


def _chunk(chunk: InspectedChunk) -> str:
    beside = "".join(_neighbour(n, rank) for rank, n in enumerate(chunk.neighbours, 1))
    if not beside:
        why = "a document's first chunk reads none" if chunk.index == 0 else "none was found"
        beside = f'<div class="head">no neighbours: {why}</div>'
    return (
        f'<div class="row"><div><div class="head">chunk {chunk.index}, '
        f"<b>{chunk.gain:+.1f} nats</b></div>"
        f'<p class="text">{_coloured(chunk.spans)}</p></div><div>{beside}</div></div>'
    )


def _neighbour(neighbour: ReadNeighbour, rank: int) -> str:
    following = ""
    if neighbour.continuation:
        following = f'<p class="text next">{_plain(neighbour.continuation)}</p>'
    return (
        f'<div class="neighbour"><div class="head">{rank}. <b>{escape(neighbour.document)}</b>, '
        f"chunk {neighbour.index}, score {neighbour.score:.3f}</div>"
        f'<p class="text">{_plain(neighbour.spans)}</p>{following}</div>'
    )


def _coloured(spans: Iterable[Span]) -> str:
    return "".join(_token(span) for span in spans)


def _token(span: Span) -> str:
    classes = [shade(span.gain)] if span.gain is not None else []
    classes += ["m"] if span.shared else []
    classes += ["d"] if span.leaked else []
    named = " ".join(filter(None, classes))
    attributes = f' class="{named}"' if named else ""
    if span.gain is not None:
        attributes += f' title="{span.gain:+.2f} nats"'
    return f"<span{attributes}>{escape(span.text)}</span>"


def _plain(spans: Iterable[Span]) -> str:
    """Text without colours; neighbours of the same mark are written together."""
    parts = []
    for shared, run in groupby(spans, key=lambda span: span.shared):
        text = escape("".join(span.text for span in run))
        parts.append(f'<span class="m">{text}</span>' if shared else text)
    return "".join(parts)


def shade(gain: float) -> str:
    """Name of the shade of a gain: "p1" to "p5", "n1" to "n5", "" for next to nothing."""
    step = min(STEPS, round(abs(gain) / FULL_NATS * STEPS))
    return f"{'p' if gain > 0 else 'n'}{step}" if step else ""

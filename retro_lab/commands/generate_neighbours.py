"""What `generate` prints of the neighbours that are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from retro_lab.run.writer import Found, Reading, Request, Writer

_LINE = 79  # characters, fewer than a terminal's columns
_LEAST = 24  # of a text after a long name


def described(writer: Writer, request: Request, reading: Reading) -> str:
    """The neighbours read from here on, as printed for `show=`."""
    size = writer.model.config.chunk_size
    where = f"chunk {-(-reading.end // size)}"  # left padding fills up the first
    if request.stride is not None and request.stride < size:
        where = f"token {reading.end}"
    count = len(reading.found)
    title = f"[{where} read {count} neighbour{'' if count == 1 else 's'}]"
    return "\n".join([title, *lines(reading.found, whole=request.show == "text")])


def lines(found: Sequence[Found], whole: bool) -> Iterator[str]:
    """Lines with document, score and text of each neighbour, shortened unless `whole`."""
    for one in found:
        score = "" if one.score is None else f"  {one.score:.3f}"
        if whole:
            yield f"  {one.document}{score}"
            yield from (f"    | {line}" for line in one.text.splitlines())
        else:
            yield in_a_line(f"  {one.document}{score}  ", one.text)


def in_a_line(before: str, text: str, after: str = "") -> str:
    """The text with blanks for line ends, cut so that all three fit in one line of a terminal."""
    joined, room = " ".join(text.split()), max(_LEAST, _LINE - len(before) - len(after))
    if len(joined) > room:
        joined = joined[: room - 3] + "..."
    return before + joined + after

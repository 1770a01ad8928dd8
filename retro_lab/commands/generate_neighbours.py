"""What `generate` prints of the neighbours that are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from retro_lab.run.writer import Found, Reading, Request, Writer

_LINE = 96  # most characters of a neighbour shown in one line


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
            yield f"  {one.document}{score}  {in_a_line(one.text)}"


def in_a_line(text: str) -> str:
    """The text with blanks for line ends, cut to one line."""
    joined = " ".join(text.split())
    return joined if len(joined) <= _LINE else joined[: _LINE - 3] + "..."

"""`python -m retro_lab generate run=...`: continues prompts with a trained run and its retrieval.

At the end of every chunk the run's index is searched with that chunk, as in training; the model
reads the neighbours from the next token on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from retro_lab.config import arguments
from retro_lab.config.console import print_error, print_warning
from retro_lab.config.errors import UserError
from retro_lab.run.writer import Found, GivenNeighbours, NeighbourSource, Reading, Request, Writer

from .generate_memory import memory_lines
from .generate_request import USAGE, parse, typed_prompts

_COMMAND, _QUIT = "/neighbours", "/quit"
_COMMANDS = f"{_COMMAND} TEXT, {_COMMAND}, {_COMMAND} off and {_QUIT}"
_LINE = 96  # most characters of a neighbour shown in one line


def main(argv: Sequence[str]) -> int:
    """Exit code of `generate <argv>`."""
    return arguments.run(argv, USAGE, _generate)


def _generate(argv: Sequence[str]) -> None:
    request = parse(argv)
    writer = Writer.load(request)
    if len(request.prompts) > 1:
        _print_batch(writer, request)
    elif request.prompts:
        _stream(writer, request, request.prompts[0])
    else:
        _converse(writer, request)


def _stream(writer: Writer, request: Request, prompt: str) -> None:
    """Prints the generated text of one prompt as it is generated."""
    _warn_of_length(writer, request, [prompt])

    shown = False

    def show(reading: Reading) -> None:
        nonlocal shown
        shown = True
        print("\n" + _described(writer, request, reading), flush=True)

    if not sys.stdin.isatty() or request.prompts:  # what was typed stands on the terminal
        print(prompt, end="", flush=True)
    for _, piece in writer.write([prompt], request, show if request.shows_neighbours else None):
        print(piece, end="", flush=True)
    print()
    if request.show == "memory":
        print("\n".join(memory_lines(writer.leaned[0])))
    if request.shows_neighbours and not shown:
        every = request.stride or writer.model.config.chunk_size
        print(
            f"[nothing was read: a search comes every {every} tokens; left_pad=on begins with one]"
        )


def _print_batch(writer: Writer, request: Request) -> None:
    """Prints the generated texts of all prompts, one after the other, when all are complete."""
    _warn_of_length(writer, request, request.prompts)
    parts: list[list[str]] = [[] for _ in request.prompts]

    def show(reading: Reading) -> None:
        parts[reading.row].append("\n" + _described(writer, request, reading) + "\n")

    reading = show if request.shows_neighbours else None
    for row, piece in writer.write(request.prompts, request, reading):
        parts[row].append(piece)
    for number, (prompt, pieces) in enumerate(zip(request.prompts, parts, strict=True), start=1):
        print(f"[prompt {number}]")
        print(prompt + "".join(pieces))
        if request.show == "memory":
            print("\n".join(memory_lines(writer.leaned[number - 1])))


def _converse(writer: Writer, request: Request) -> None:
    """Continues prompts that the user types, and handles `/neighbours` commands."""
    searched = None if isinstance(writer.source, GivenNeighbours) else writer.source
    for line in typed_prompts():
        word = line.split(" ")[0]
        if word == _QUIT:
            return
        if _is_command(word) and word != _COMMAND:
            print_error(f"{word} is no command; there are {_COMMANDS}")
            continue
        if word != _COMMAND:
            _stream(writer, request, line)
            continue
        try:
            _neighbours_typed(writer, line.removeprefix(_COMMAND).strip(), searched)
        except UserError as error:
            print_error(str(error))


def _is_command(word: str) -> bool:
    """Whether a line's first word is `/` and letters; a path such as /etc/hosts is a prompt."""
    return word.startswith("/") and word[1:].isalpha()


def _neighbours_typed(writer: Writer, text: str, searched: NeighbourSource | None) -> None:
    """Handles `/neighbours <text>`: adds a neighbour, shows all, or `off` to search again."""
    given = writer.source if isinstance(writer.source, GivenNeighbours) else None
    if text == "off":
        writer.source = searched
        given = None
    elif text:
        writer.set_neighbours([*(given.texts if given else ()), text])
        given = writer.source
    if isinstance(given, GivenNeighbours):
        print("reads, in place of what a search finds:")
        print("\n".join(_lines(given.found, whole=True)))
    elif writer.source is None:
        print("reads no neighbours")
    else:
        print("reads what a search finds")


def _described(writer: Writer, request: Request, reading: Reading) -> str:
    """The neighbours read from here on, as printed for `show=`."""
    size = writer.model.config.chunk_size
    where = f"chunk {-(-reading.end // size)}"  # left padding fills up the first
    if request.stride is not None and request.stride < size:
        where = f"token {reading.end}"
    count = len(reading.found)
    title = f"[{where} read {count} neighbour{'' if count == 1 else 's'}]"
    return "\n".join([title, *_lines(reading.found, whole=request.show == "text")])


def _lines(found: Sequence[Found], whole: bool) -> Iterator[str]:
    """Lines with document, score and text of each neighbour, shortened unless `whole`."""
    for one in found:
        score = "" if one.score is None else f"  {one.score:.3f}"
        if whole:
            yield f"  {one.document}{score}"
            yield from (f"    | {line}" for line in one.text.splitlines())
        else:
            yield f"  {one.document}{score}  {_in_a_line(one.text)}"


def _in_a_line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= _LINE else joined[: _LINE - 3] + "..."


def _warn_of_length(writer: Writer, request: Request, prompts: Sequence[str]) -> None:
    """Warns if prompt and new tokens exceed the training window.

    Generation still works, since all position encodings are relative.
    """
    longest = max(len(writer.encode(prompt)) for prompt in prompts) + request.tokens
    if longest > writer.window:
        message = (
            f"{longest:,} tokens with the prompt, but the model was trained on windows of "
            f"{writer.window:,}: expect worse text beyond them"
        )
        print_warning(message)

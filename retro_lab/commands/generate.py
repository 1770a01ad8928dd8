"""`python -m retro_lab generate run=...`: continues prompts with a trained run and its retrieval.

At the end of every chunk the run's index is searched with that chunk, as in training; the model
reads the neighbours from the next token on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from retro_lab.config import arguments
from retro_lab.config.console import print_error, print_warning
from retro_lab.config.errors import UserError
from retro_lab.run.writer import GivenNeighbours, NeighbourSource, Reading, Request, Writer

from .generate_memory import memory_lines
from .generate_neighbours import described, in_a_line, lines
from .generate_request import USAGE, parse, typed_prompts

_COMMAND, _QUIT = "/neighbours", "/quit"
_COMMANDS = f"{_COMMAND} TEXT, {_COMMAND}, {_COMMAND} off and {_QUIT}"


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
        print("\n" + described(writer, request, reading), flush=True)

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
        parts[reading.row].append("\n" + described(writer, request, reading) + "\n")

    reading = show if request.shows_neighbours else None
    for row, piece in writer.write(request.prompts, request, reading):
        parts[row].append(piece)
    for number, (prompt, pieces) in enumerate(zip(request.prompts, parts, strict=True), start=1):
        print(in_a_line(f"[prompt {number}: ", prompt, "]"))
        print("".join(pieces))
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
        print("\n".join(lines(given.found, whole=True)))
    elif writer.source is None:
        print("reads no neighbours")
    else:
        print("reads what a search finds")


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

"""Arguments of `generate`: usage, parsing and checks, and prompts typed by the user."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path

from retro_lab.config import arguments
from retro_lab.config.console import decoded, print_warning
from retro_lab.config.errors import UserError
from retro_lab.run.writer import Request

USAGE = """usage: python -m retro_lab generate run=runs/... [prompt="..."] [key=value ...]

Continues a prompt with a trained run and prints it with the text as that is generated. Several
prompt=... are a batch. Without a prompt, reads prompts from the terminal until /quit or Ctrl-D;
there, /neighbours TEXT adds a neighbour to read, /neighbours shows them, and /neighbours off drops
them.
  tokens=128        most new tokens; the text also ends where the model ends the document
  temperature=0.8   0 always takes the most likely token
  top_k=0           samples from the k most likely tokens; 0: from all
  top_p=1           samples from the most likely tokens that together have this probability
  seed=0            of the sampling; prompt i of a batch uses seed + i
  show=neighbours   shows the neighbours of each search: document, score, text in one line;
                    show=text shows the whole text
  memory=suffix_topic   also reads the database at every token (docs/memory.md); or suffix
  show=memory       shows what was written from memory, and from which documents
  retrieval=off     does not search; on is the default for a run with a retriever
  stride=16         tokens between searches, from 1 to the run's chunk size, which is the default
  left_pad=on       pads the prompt on its left, so that a search falls on its end
  neighbours_text="..."  a neighbour to read in place of search results; may be repeated
  neighbours_file=FILE   a file of such neighbours, separated by lines of ---
  device=auto       cpu, cuda, or auto: cuda if there is one"""

_DELIMITER = "---"


def parse(argv: Sequence[str]) -> Request:
    """The arguments as a request.

    Raises:
        UserError: an unknown key, an invalid value, contradicting keys, or no run.
    """
    request = arguments.parse(argv, Request, "generate")
    if request.neighbours_file is not None:
        given = (*request.neighbours, *_from_file(request.neighbours_file))
        request = replace(request, neighbours=given)
    if request.neighbours and request.retrieval is not None:
        retrieval = "on" if request.retrieval else "off"
        raise UserError(
            f"retrieval={retrieval} and neighbours given by hand contradict each other: what is "
            "given is read in place of what a search finds",
            fix=f"leave out retrieval={retrieval}, or the neighbours",
        )
    if request.retrieval is False and request.retrieval_keys:
        raise UserError(
            f"{request.retrieval_keys[0]}= is about neighbours, and retrieval=off reads none",
            fix=f"leave out {request.retrieval_keys[0]}=, or retrieval=off",
        )
    return request


def _from_file(path: Path) -> list[str]:
    """The neighbours in a file, separated by lines of ---."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"neighbours_file={path} cannot be read: {what}", fix="give a text file"
        ) from None
    texts = [""]
    for line in lines:
        if line.strip() == _DELIMITER:
            texts.append("")
        else:
            texts[-1] += line
    found = [text for text in texts if text.strip()]
    if not found:
        raise UserError(f"neighbours_file={path} has no text", fix="write the neighbours into it")
    return found


def typed_prompts() -> Iterator[str]:
    """Prompts typed by the user, until the end of input."""
    import readline  # noqa: F401  (gives input() its line editing and history)

    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    while True:
        try:
            line = input("prompt> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        text = decoded(line)
        if "\ufffd" in text and "\ufffd" not in line:
            print_warning("bytes that are no UTF-8 were replaced")
        yield text

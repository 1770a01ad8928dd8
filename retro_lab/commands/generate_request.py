"""What a user asks `generate` for: the keys of its command line, and which go together."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from retro_lab.config.errors import UserError
from retro_lab.run.writer import Request

USAGE = """usage: python -m retro_lab generate run=runs/... [prompt="..."] [key=value ...]

Continues a prompt with a trained run; prints the continuation while it is made. Several prompt=...
are a batch. Without a prompt it asks for one after the other; Ctrl-D ends it, and
/neighbours TEXT gives it a neighbour to read, /neighbours shows them, /neighbours off drops them.
  tokens=128        at most so many new tokens; a document that ends sooner ends the text
  temperature=0.8   0 always takes the likeliest token
  top_k=0           draws among the k likeliest tokens; 0: among all
  top_p=1           draws among the likeliest tokens that together have this share
  seed=0            the same seed draws the same text; prompt i of a batch draws with seed + i
  show=neighbours   tells at each search what is read: document, score, text in a line; show=text
                    shows the text as it is
  retrieval=off     does not search; on is the default for a run that has a retriever
  stride=16         searches every so many tokens, 1 to the run's chunk size, which is the default
  left_pad=on       pads the prompt on its left, so that a search falls on its end
  neighbours_text="..."  is read in place of what a search finds; several times over, several
  neighbours_file=FILE   likewise; a line of --- parts one neighbour from the next
  device=auto       cpu, cuda, or auto: cuda where there is one"""

N = TypeVar("N", int, float)
_MANY = ("prompt", "neighbours_text")
_KEYS = (
    *("run", "prompt", "tokens", "temperature", "top_k", "top_p", "seed", "show", "retrieval"),
    *("stride", "left_pad", "neighbours_text", "neighbours_file", "device"),
)
_DELIMITER = "---"


def parse(argv: Sequence[str]) -> Request:
    """The arguments as a request.

    Raises:
        UserError: an unknown key, a value that does not fit, keys that contradict, or no run.
    """
    given, many = _given(argv)
    if not given.get("run"):
        raise UserError("generate needs a run", fix="add run=runs/..., a trained run's directory")
    retrieval = _choice(given, "retrieval", ("on", "off"))
    request = Request(
        run=Path(given["run"]),
        prompts=tuple(many["prompt"]),
        tokens=_number(given, "tokens", int, least=1, default=128),
        temperature=_number(given, "temperature", float, least=0, default=0.8),
        top_k=_number(given, "top_k", int, least=0, default=0),
        top_p=_share(given, "top_p"),
        seed=_number(given, "seed", int, least=0, default=0),
        show=_choice(given, "show", ("neighbours", "text")),
        retrieval=None if retrieval is None else retrieval == "on",
        stride=_number(given, "stride", int, least=1, default=0) or None,
        left_pad=_choice(given, "left_pad", ("on", "off")) == "on",
        neighbours=(*many["neighbours_text"], *_from_file(given.get("neighbours_file"))),
        device=_choice(given, "device", ("auto", "cpu", "cuda")) or "auto",
    )
    if not all(many["neighbours_text"]):
        raise UserError(
            "neighbours_text= has no text", fix="neighbours_text=<text>, or leave it out"
        )
    if request.neighbours and retrieval is not None:
        raise UserError(
            f"retrieval={retrieval} and neighbours given by hand contradict each other: what is "
            "given is read in place of what a search finds",
            fix=f"leave out retrieval={retrieval}, or the neighbours",
        )
    if request.retrieval is False and request.about_neighbours:
        raise UserError(
            f"{request.about_neighbours[0]}= is about neighbours, and retrieval=off reads none",
            fix=f"leave out {request.about_neighbours[0]}=, or retrieval=off",
        )
    return request


def _given(argv: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Values by key: of keys that are given once, and of those that may be repeated."""
    given: dict[str, str] = {}
    many: dict[str, list[str]] = {key: [] for key in _MANY}
    for argument in argv:
        key, equals, value = argument.partition("=")
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            fix = f"did you mean {near[0]}=...?" if near else f"keys: {', '.join(_KEYS)}"
            raise UserError(f"{key} is not a key of generate", fix=fix)
        if not equals:
            raise UserError(f"{key} has no value", fix=f"{key}=...")
        if key in many:
            many[key].append(value)
        elif key in given:
            raise UserError(f"{key} is given twice", fix=f"leave out {argument}")
        else:
            given[key] = value
    return given, many


def _from_file(name: str | None) -> list[str]:
    """Neighbours in a file, parted by lines of ---."""
    if name is None:
        return []
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"neighbours_file={name} cannot be read: {what}", fix="give a text file"
        ) from None
    texts = [""]
    for line in lines:
        if line.strip() == _DELIMITER:
            texts.append("")
        else:
            texts[-1] += line
    found = [text for text in texts if text.strip()]
    if not found:
        raise UserError(f"neighbours_file={name} has no text", fix="write the neighbours into it")
    return found


def _number(given: dict[str, str], key: str, kind: Callable[[str], N], least: int, default: N) -> N:
    if key not in given:
        return default
    try:
        value = kind(given[key])
    except ValueError:
        value = None
    if value is None or not least <= value < 2**63:
        what = "a whole number" if kind is int else "a number"
        raise UserError(
            f"{key}={given[key]}: expected {what} of at least {least}",
            fix=f"leave out {key}= for its default",
        )
    return value


def _share(given: dict[str, str], key: str) -> float:
    share = _number(given, key, float, least=0, default=1.0)
    if not 0 < share <= 1:
        raise UserError(
            f"{key}={given[key]}: expected a share above 0 and at most 1", fix=f"{key}=0.9"
        )
    return share


def _choice(given: dict[str, str], key: str, choices: Sequence[str]) -> str | None:
    if key not in given:
        return None
    if given[key] not in choices:
        options = " or ".join(f"{key}={choice}" for choice in choices)
        raise UserError(f"{key}={given[key]} is none of its values", fix=options)
    return given[key]

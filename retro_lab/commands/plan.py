"""`python -m retro_lab plan`: what a corpus of any size will take, before anything is built."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from retro_lab.config.compose import load_config
from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError
from retro_lab.config.explain import explain, uncomposed
from retro_lab.config.keys import known_keys
from retro_lab.config.rules import check
from retro_lab.config.schema import Config
from retro_lab.planner.plan import Database, building_memory, planned_chunks, planned_files
from retro_lab.planner.plan_rates import EMBEDDED, INDEXED, Rates, measure_embed, measure_search
from retro_lab.planner.plan_tables import sizes_table, time_table
from retro_lab.retrieval.embed.embedders import known_width

USAGE = """\
usage: python -m retro_lab plan database.tokens=N [key=value ...]

Prints chunks, bytes on disk and in memory for every stage, and with rates the time and the
workers. Takes what train.py takes (retriever, chunking, neighbours, embedder, tokenizer,
database.fraction) and:

  database.tokens=1.75e12        tokens of the corpus; required
  database.document_tokens=500   mean document; adds boundary tokens and padding (default: none)
  database.train_share=1         share of the chunks that are searched, the training split
  database.bytes_per_token=4     UTF-8 bytes of text a token
  database.distinct=0.65         distinct tokens of a chunk, as a share; for lexical indexes
  database.vocab=N               token ids, where the tokenizer doesn't say
  embedder.dim=384               width of an embedding, where the embedder doesn't say
  rates.embed=80                 chunks/s that one worker embeds
  rates.search=1000              queries/s that one worker searches in the whole database
  rates=measure                  both measured here in seconds, the search on a small index
  deadline=24h                   s, m, h or d: how many workers it takes"""

_DEFAULTS = {
    "database.tokens": None,
    "database.document_tokens": None,
    "database.train_share": 1.0,
    "database.bytes_per_token": 4.0,
    "database.distinct": 0.65,
    "database.vocab": None,
    "embedder.dim": None,
    "rates.embed": None,
    "rates.search": None,
}
_SHARES = {"database.train_share", "database.distinct"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTE_VOCABULARY = 258
_UNKNOWN_VOCABULARY = 2**17  # as int32, the larger of the two formats


@dataclass(frozen=True)
class Request:
    """The planner's own arguments, and the configuration's.

    Attributes:
        numbers: a value for each key of the planner, None where it has no default.
        deadline: seconds, or None.
        measure: whether rates are measured.
        overrides: what is left for Hydra.
    """

    numbers: Mapping[str, float | None]
    deadline: float | None
    measure: bool
    overrides: list[str]


def main(argv: Sequence[str]) -> int:
    """Prints the plan; returns 0, or 2 for a mistake."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0
    try:
        request = parse(argv)
        config = _config(request)
        _print_plan(request, config)
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    return 0


def parse(argv: Sequence[str]) -> Request:
    """Takes the planner's keys out of the arguments.

    Raises:
        UserError: an unknown key of the planner, or a value that is no number above zero.
    """
    numbers: dict[str, float | None] = dict(_DEFAULTS)
    deadline, measure, overrides = None, False, []
    for argument in argv:
        key, _, value = argument.partition("=")
        if key in _DEFAULTS:
            numbers[key] = _number(key, value)
        elif key == "deadline":
            deadline = _seconds(value)
        elif argument == "rates=measure":
            measure = True
        elif key.partition(".")[0] in ("database", "rates") and not _is_setting(key):
            near = difflib.get_close_matches(key, _DEFAULTS, n=1, cutoff=0.4)
            raise UserError(
                f"{argument}: the planner has no such key",
                fix=f"did you mean {near[0]}=...?" if near else f"keys: {', '.join(_DEFAULTS)}",
            )
        else:
            overrides.append(argument)
    if numbers["database.tokens"] is None:
        raise UserError(
            "database.tokens has no value and needs one", fix="add database.tokens=1.75e12"
        )
    return Request(numbers, deadline, measure, overrides)


def _is_setting(key: str) -> bool:
    """Whether it is a key of the group `database`, or the choice of its option."""
    if key == "database" or key.startswith("database.corpora."):
        return True
    return any(known.name == key for known in known_keys())


def _number(key: str, text: str) -> float:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        value = float("nan")
    most = 1.0 if key in _SHARES else float("inf")
    if not 0 < value <= most or value == float("inf"):
        wanted = "a number above 0, at most 1" if key in _SHARES else "a number above 0"
        raise UserError(f"{key}={text}: expected {wanted}", fix=f"{key}={_DEFAULTS[key] or '1e6'}")
    return value


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not match or float(match[1]) == 0:
        raise UserError(
            f"deadline={text}: expected a number above 0 and s, m, h or d", fix="deadline=24h"
        )
    return float(match[1]) * _UNITS[match[2]]


def _config(request: Request) -> Config:
    try:
        config = load_config(request.overrides)
    except Exception as error:
        raise explain(error) or uncomposed(error, "train", request.overrides) from error
    dim = request.numbers["embedder.dim"]
    if dim is not None and hasattr(config.embedder, "dim"):
        config.embedder = dataclasses.replace(config.embedder, dim=int(dim))
    check(config)
    return config


def width_of(config: Config, given: float | None) -> int:
    """Width of an embedding.

    Raises:
        UserError: neither the embedder's settings nor `embedder.dim` tell it.
    """
    if given is not None:
        return int(given)
    width = known_width(config.embedder)
    if width is None:
        raise UserError(
            f"embedder={config.embedder.name}: its width isn't known without loading it",
            fix="add embedder.dim=768, or whatever it is",
        )
    return width


def vocabulary_of(config: Config, given: float | None) -> int:
    """Token ids; a Hugging Face tokenizer's are taken to need four bytes."""
    if given is not None:
        return int(given)
    if config.tokenizer.name == "byte":
        return _BYTE_VOCABULARY
    return getattr(config.tokenizer, "vocab_size", _UNKNOWN_VOCABULARY)


def _print_plan(request: Request, config: Config) -> None:
    numbers = request.numbers
    tokens = numbers["database.tokens"] or 0.0
    document_tokens = numbers["database.document_tokens"]
    size = config.chunking.chunk_size
    chunks = planned_chunks(tokens, size, document_tokens)
    share = (numbers["database.train_share"] or 1.0) * config.database.fraction
    planned = Database(
        chunks=chunks,
        database=max(1, round(chunks * share)),
        documents=max(1, round(tokens / document_tokens)) if document_tokens else 1,
        text_bytes=round(tokens * (numbers["database.bytes_per_token"] or 0.0)),
        chunk_size=size,
        vocab_size=vocabulary_of(config, numbers["database.vocab"]),
        distinct=numbers["database.distinct"] or 0.0,
    )
    dense = config.retriever.needs_embeddings
    width = width_of(config, numbers["embedder.dim"]) if dense else 0
    files = planned_files(
        planned,
        config.retriever,
        width,
        config.neighbours.k_store,
        two_sided=config.embedder.two_sided,
    )
    memory = building_memory(planned, config.retriever, width, files)

    console = Console()
    console.print(sizes_table(planned, files, memory))
    if config.retriever.retrieves:
        rates = _rates(request, config, planned, width)
        _require_rates(request, rates, dense)
        console.print(time_table(planned, rates, dense, request.deadline))


def _require_rates(request: Request, rates: Rates, dense: bool) -> None:
    """Raises UserError for a deadline without the rates that its workers follow from."""
    wanted = {"rates.embed": rates.embed} if dense else {}
    missing = [key for key, rate in (wanted | {"rates.search": rates.search}).items() if not rate]
    if request.deadline is not None and missing:
        given = " ".join(f"{key}=<of one worker, a second>" for key in missing)
        raise UserError(
            f"a deadline's workers follow from rates, and there is no {' and no '.join(missing)}",
            fix=f"rates=measure, or {given}",
        )


def _rates(request: Request, config: Config, planned: Database, width: int) -> Rates:
    """Those given; what is missing of them measured, if asked for."""
    embed, search = request.numbers["rates.embed"], request.numbers["rates.search"]
    if not request.measure:
        return Rates(embed, search)
    if embed is None and config.retriever.needs_embeddings:
        embed = measure_embed(config.embedder, planned)
    if search is None:
        search = measure_search(config.retriever, planned, width, config.neighbours.k_store)
    note = f"measured here on {EMBEDDED} texts and {INDEXED[-1]:,} random chunks, search scaled"
    return Rates(embed, search, note)

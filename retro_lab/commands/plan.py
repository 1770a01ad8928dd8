"""`python -m retro_lab plan`: estimates disk, memory and time for a corpus of any size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich.console import Console

from retro_lab.config import arguments
from retro_lab.config.compose import load_config
from retro_lab.config.explain import explain, uncomposed
from retro_lab.config.keys import known_keys
from retro_lab.config.rules import check
from retro_lab.config.schema import Config
from retro_lab.planner.plan import building_memory, planned_files
from retro_lab.planner.plan_memory import memory_building, memory_files
from retro_lab.planner.plan_tables import memory_table, sizes_table, time_table
from retro_lab.planner.request import PlanRequest
from retro_lab.run.backbone import with_backbone

USAGE = """\
usage: python -m retro_lab plan database.tokens=N [key=value ...]

Prints chunks, bytes on disk and in memory for every stage, and with rates the time and the
workers. Takes settings of train.py (retriever, chunking, neighbours, embedder, tokenizer, memory,
database.fraction) and:

  database.tokens=1.75e12        tokens of the corpus; required
  database.document_tokens=500   mean document; adds boundary tokens and padding (default: none)
  database.train_share=1         share of the chunks in the training split, which is searched
  database.bytes_per_token=4     UTF-8 bytes of text a token
  database.distinct=0.65         distinct tokens of a chunk, as a share; for lexical indexes
  database.vocab=N               vocabulary size, if the tokenizer's settings don't give it
  embedder.dim=384               embedding width, if the embedder's settings don't give it
  rates.embed=80                 chunks/s that one worker embeds
  rates.search=1000              queries/s that one worker searches in the whole database
  rates=measure                  measures both here within seconds, the search on a small index
  deadline=24h                   s, m, h or d; prints the workers needed to meet the deadline"""


def main(argv: Sequence[str]) -> int:
    """Exit code of `plan <argv>`, which prints the plan."""
    return arguments.run(argv, USAGE, _plan, bare=True)


def parse(argv: Sequence[str]) -> tuple[PlanRequest, list[str]]:
    """The planner's own arguments as a request, and the remaining ones for Hydra.

    Raises:
        UserError: an unknown key of the planner, or an invalid value.
    """
    keys = arguments.keys_of(PlanRequest)
    own, overrides = [], []
    for argument in argv:
        key = argument.partition("=")[0]
        group = key.partition(".")[0]
        mine = key in keys or (group in ("database", "rates") and not _is_setting(key))
        (own if mine else overrides).append(argument)
    return arguments.parse(own, PlanRequest, "plan"), overrides


def _is_setting(key: str) -> bool:
    """Whether a key is a configuration key of the group `database`, or selects its option."""
    if key == "database" or key.startswith("database.corpora."):
        return True
    return any(known.name == key for known in known_keys())


def _config(overrides: list[str], dim: float | None) -> Config:
    try:
        config = load_config(overrides)
    except Exception as error:
        raise explain(error) or uncomposed(error, "train", overrides) from error
    if dim is not None and hasattr(config.embedder, "dim"):
        config.embedder = dataclasses.replace(config.embedder, dim=int(dim))
    check(config)
    return config


def _plan(argv: Sequence[str]) -> None:
    request, overrides = parse(argv)
    config = _config(overrides, request.dim)
    planned, retriever = request.database(config), config.retriever
    width, dense = request.width(config), retriever.needs_embeddings
    two_sided = config.embedder.two_sided
    files = planned_files(planned, retriever, width, config.neighbours.k_store, two_sided=two_sided)
    console = Console()
    memory = building_memory(planned, retriever, width, files)
    states = with_backbone(config).model.d_model
    files += memory_files(planned, config.memory, states)
    memory |= memory_building(planned, config.memory, states)
    console.print(sizes_table(planned, files, memory))
    if config.memory.experts:
        console.print(memory_table(planned, config.memory))
    if config.retriever.retrieves:
        rates = request.measured(config, planned, width)
        console.print(time_table(planned, rates, dense, request.deadline))

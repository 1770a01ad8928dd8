"""`python -m retro_lab prepare`: builds the data of a run; `--explain` only lists the stages."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from retro_lab.config.schema import Config
from retro_lab.config.wrapping import show

if TYPE_CHECKING:
    from retro_lab.store import Artifact

LOG = logging.getLogger("retro_lab")
_USAGE = """\
usage: python -m retro_lab prepare [--explain] [key=value ...]

Builds the data of a run and no more: corpus, tokenizer, chunks, index and neighbours, for training
and evaluation. Takes the settings of train.py. What is stored already is not built again, and an
interrupted command goes on where it stopped. Prints each stage with its folder and counts.

  --explain   builds nothing; prints for each stage whether it is stored, and if not which setting
              or text differs from what is
  prepare.engine=ray   how it is spread over processes; more keys: train.py --cfg job

  python -m retro_lab prepare corpus=csv corpus.path=my.csv corpus.text_field=body
  python -m retro_lab prepare --explain retriever=faiss_flat"""


def main(argv: Sequence[str]) -> int:
    """Exit code of `prepare <argv>`."""
    if {"--help", "-h"} & set(argv):
        show(_USAGE, sys.stdout)
        return 0
    from . import launch

    explain = "--explain" in argv
    task = explain_stages if explain else build_stages
    return launch.run("train", task, [argument for argument in argv if argument != "--explain"])


def explain_stages(config: Config) -> int:
    """Prints hit or miss for each stage, and the key that caused a miss, without building."""
    from retro_lab.run.data.graph import DataGraph
    from retro_lab.run.data.nodes import in_building_order
    from retro_lab.run.evaluating.probes import nodes_of_run
    from retro_lab.store import Stage

    graph = DataGraph(config)
    stages = [node.stage for node in in_building_order(nodes_of_run(graph, config))]
    for explanation in graph.store.explain([s for s in stages if isinstance(s, Stage)]):
        print(explanation.line())
    return 0


def build_stages(config: Config) -> int:
    """Builds all data that training and evaluation read, and prints each stage with its counts.

    Raises:
        UserError: bad input, or too few neighbours after exclusion.
    """
    from retro_lab.run.data.graph import DataGraph
    from retro_lab.run.data.nodes import in_building_order
    from retro_lab.run.evaluating.probes import nodes_of_run

    graph = DataGraph(config)
    graph.prepare()
    for node in in_building_order(nodes_of_run(graph, config)):
        artifact = node.artifact
        print(f"{artifact.stage:<12}{artifact.path}")
        if words := _in_words(artifact):
            show(" " * 12 + words, sys.stdout)
    return 0


def _in_words(artifact: Artifact) -> str | None:
    """A stage's counts as printed text; None if there are none to print."""
    from retro_lab.retrieval.table_facts import in_words
    from retro_lab.text.chunks import mended_shares
    from retro_lab.text.corpus import corpus_in_words

    if artifact.stage not in ("corpus", "chunks", "neighbours"):
        return None
    if artifact.stage == "corpus":
        return corpus_in_words(artifact.stats)
    if artifact.stage == "chunks":
        shares = mended_shares(artifact.stats)
        words = {
            "spelt": "of the bytes are tokens of their own: the tokenizer loses them",
            "unknown": "of the tokens stand for text that the dataset does not hold",
        }
        return "; ".join(f"{share:.2%} {words[name]}" for name, share in shares.items()) or None
    return f"{artifact.manifest['spec']['fields']['kind']}: {in_words(artifact.stats)}"

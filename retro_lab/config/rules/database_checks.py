"""Rules of what is searched: nothing that leaves it empty, and nothing without an effect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..databases import RESERVED_NAMES, added_corpora, other_corpora
from ..errors import UserError
from ..fingerprints import has_retrieval
from ..schema import (
    Config,
    EvalConfig,
    NorlundCorpusConfig,
    PlantedDatabaseConfig,
    Reference,
    SplitConfig,
)
from .bounds import SPLITS, problem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def database(config: Config) -> Iterator[UserError]:
    """Every broken rule of `database`."""
    if not has_retrieval(config):
        return
    yield from _documents(config)
    yield from _corpora(config)
    if isinstance(config.database, PlantedDatabaseConfig):
        yield from _planted(config.database)
    if config.eval.injection.doses:
        yield from _injection(config.eval)


def _documents(config: Config) -> Iterator[UserError]:
    chosen, evaluation = config.database, config.eval
    if not 0 < chosen.fraction <= 1:
        yield problem(
            "database.fraction",
            chosen.fraction,
            "is the share of documents that are searched, above 0 and at most 1",
            "database.fraction=0.1, or retriever=none to search nothing",
        )
    unknown = [split for split in chosen.splits if split not in SPLITS]
    if unknown or len(set(chosen.splits)) < len(chosen.splits):
        yield problem(
            "database.splits",
            chosen.splits,
            f"must be some of {', '.join(SPLITS)}, each once",
            "database.splits=[train]",
        )
    if not (chosen.splits or chosen.add or other_corpora(chosen)):
        yield problem(
            "database.splits",
            chosen.splits,
            "with no other corpus there is nothing to search",
            "database.splits=[train], or retriever=none",
        )
    exact = evaluation.leakage and evaluation.reference is Reference.exact_corpus
    if exact and evaluation.split in chosen.splits and evaluation.split != "train":
        yield problem(
            "database.splits",
            chosen.splits,
            f"every chunk of the {evaluation.split} split stands in the database, so its exact "
            "overlap says nothing (eval.reference=exact_corpus)",
            "eval.reference=own_neighbours, or database=planted, whose copies are counted apart",
        )


def _corpora(config: Config) -> Iterator[UserError]:
    chosen = config.database
    for name, corpus in other_corpora(chosen).items():
        key = "database.corpus" if hasattr(chosen, "corpus") else f"database.corpora.{name}"
        if not _NAME.fullmatch(name) or name in RESERVED_NAMES:
            yield UserError(
                f"{key}: {name!r} can't be the name of a corpus",
                fix="call it by a plain word of letters and digits, not own and not planted",
            )
        if isinstance(corpus, NorlundCorpusConfig):
            yield problem(
                key,
                corpus.name,
                "brings its own chunks, so it can only be the run's own corpus",
                "corpus=norlund, or another reader here",
            )
        if corpus.max_bytes is not None and corpus.max_bytes < 1:
            yield problem(
                f"{key}.max_bytes", corpus.max_bytes, "must be at least 1, or null", "leave it out"
            )
        if corpus.split != SplitConfig():
            yield UserError(
                f"{key}.split has no effect: all documents of another corpus are searched",
                fix=f"leave {key}.split out; database.fraction takes a share of the documents",
            )
    if len(set(chosen.add)) < len(chosen.add):
        yield problem(
            "database.add",
            chosen.add,
            "names a file twice, whose chunks would be found twice",
            f"database.add=[{','.join(dict.fromkeys(chosen.add))}]",
        )
    try:
        added_corpora(chosen)
    except UserError as error:
        yield error


def _planted(chosen: PlantedDatabaseConfig) -> Iterator[UserError]:
    if not 0 <= chosen.plant_share <= 1:
        yield problem(
            "database.plant_share",
            chosen.plant_share,
            "is a share of one half of the documents, from 0 to 1",
            "database.plant_share=0.1",
        )
    if chosen.plant_split not in SPLITS or chosen.plant_split in chosen.splits:
        yield problem(
            "database.plant_split",
            chosen.plant_split,
            f"must be a split that is not searched itself (database.splits={chosen.splits})",
            "database.plant_split=test",
        )


def _injection(evaluation: EvalConfig) -> Iterator[UserError]:
    """A leak must be one, and what is planted must be apart from the training text."""
    doses = evaluation.injection.doses
    if not all(0 < dose <= 1 for dose in doses) or len(set(doses)) < len(doses):
        yield problem(
            "eval.injection.doses",
            doses,
            "must be different shares of one half of the documents, each above 0 and at most 1 "
            "(0 is always measured)",
            "eval.injection.doses=[0.01,0.1,0.5]",
        )
    if not evaluation.leakage:
        yield problem(
            "eval.leakage",
            evaluation.leakage,
            "the experiment shows whether r(C) sees a leak, so r(C) must be measured",
            "eval.leakage=true, or eval.injection.doses=[]",
        )
    if evaluation.split == "train":
        yield problem(
            "eval.split",
            evaluation.split,
            "copies of training documents are no leak: they are searched already",
            "eval.split=test",
        )

"""`python -m retro_lab validate`: checks a configuration; prints its run directory and sizes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from retro_lab.config import arguments
from retro_lab.config.compose import compose_root, to_config
from retro_lab.config.console import print_warning
from retro_lab.config.errors import ConfigError, UserError
from retro_lab.config.explain import explain, uncomposed
from retro_lab.config.fingerprints import canonical
from retro_lab.config.keys import groups
from retro_lab.config.rules import check
from retro_lab.config.schema import (
    Config,
    CorpusConfig,
    FileCorpusConfig,
    NorlundCorpusConfig,
)
from retro_lab.config.wrapping import show

_LARGE = 10_000_000  # chunks, enough to train any FAISS index
_USAGE = """\
usage: python -m retro_lab validate [key=value ...]

Takes the settings of train.py. Composes the configuration, applies every rule, reads the first
document of a corpus of files, and prints the run directory, sizes, and about how much memory and
time training takes here. What is hopeless gets a warning.

Exit code 0 if the configuration is valid; 2 with every misspelling, or else every broken rule."""


def main(argv: Sequence[str]) -> int:
    """Exit code of `validate <argv>`, which prints a summary or every problem."""
    return arguments.run(argv, _USAGE, _validate, bare=True)


def _validate(argv: Sequence[str]) -> None:
    root = _compose(list(argv))
    try:
        config = to_config(root)
    except Exception as error:
        raise explain(error) or uncomposed(error, "train", argv) from error
    check(config)
    _check_factory(config)
    config = canonical(config)
    _check_text(config.corpus)
    _show(config, str(root.hydra.run.dir))


def _compose(overrides: list[str]) -> DictConfig:
    """The composed root.

    Raises:
        ConfigError: with the errors of all refused overrides, where Hydra reports only the first.
    """
    try:
        return compose_root("train", overrides)
    except Exception as error:
        first = explain(error, overrides) or uncomposed(error, "train", overrides)
    if len(overrides) == 1:
        raise ConfigError([first])
    accepted: list[str] = []
    problems: list[UserError] = []
    for override in sorted(overrides, key=_is_value):
        try:
            compose_root("train", [*accepted, override])
            accepted.append(override)
        except Exception as error:
            problems.append(explain(error, [override]) or uncomposed(error, "train", [override]))
    raise ConfigError(problems or [first])


def _is_value(override: str) -> bool:
    """Sort key that orders choices of group options before values inside groups."""
    key = override.partition("=")[0].lstrip("+~")
    return key not in groups() and "/" not in key


def _check_factory(config: Config) -> None:
    """Lets FAISS parse the factory string, if the embedding width is known without a model.

    A corpus too small to train the index is only detected by `prepare`.

    Raises:
        UserError: FAISS rejects the factory.
    """
    from retro_lab.retrieval.embed.embedders import known_width
    from retro_lab.retrieval.search.faiss_factory import check_factory

    dense, width = config.retriever.dense_part, known_width(config.embedder)
    if dense is not None and width is not None:
        key = "retriever" if dense is config.retriever else "retriever.dense"
        check_factory(dense, _LARGE, width, key)


def _check_text(corpus: CorpusConfig) -> None:
    """Reads the first document of a corpus of files.

    Raises:
        UserError: a path is missing, or its file or the fields are not what the corpus expects.
    """
    from retro_lab.text.readers import build_reader, read_documents

    if isinstance(corpus, NorlundCorpusConfig):
        build_reader(corpus)
    elif isinstance(corpus, FileCorpusConfig):
        next(read_documents(corpus), None)


def _show(config: Config, directory: str) -> None:
    """Prints the run, what training it takes, and warnings of what is hopeless about that."""
    from retro_lab.planner.training import Machine, Training
    from retro_lab.planner.training_words import in_words, run_in_words

    training, machine = Training.of(config), Machine.here(config.trainer)
    rows = run_in_words(config, training.parameters) | in_words(training, machine)
    for name, value in {"run directory": directory, **rows}.items():
        show(f"{name + ':':<15}{value}", sys.stdout)
    for warning in training.warnings(machine):
        print_warning(warning)

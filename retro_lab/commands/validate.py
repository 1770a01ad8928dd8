"""`python -m retro_lab validate`: checks a configuration; prints its run directory and sizes."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from retro_lab.config import arguments
from retro_lab.config.compose import compose_root, to_config
from retro_lab.config.errors import ConfigError, UserError, as_text
from retro_lab.config.explain import explain, uncomposed
from retro_lab.config.fingerprints import canonical
from retro_lab.config.keys import groups
from retro_lab.config.rules import check
from retro_lab.config.schema import Config

_LARGE = 10_000_000  # chunks, enough to train any FAISS index
_USAGE = """\
usage: python -m retro_lab validate [key=value ...]

Takes the settings of train.py. Composes the configuration, applies every rule, builds the model
without memory for its weights, and prints the run directory and sizes. It reads no data.

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
    print(_summary(canonical(config), str(root.hydra.run.dir)))


def _compose(overrides: list[str]) -> DictConfig:
    """The composed root.

    Raises:
        ConfigError: with the errors of all refused overrides, where Hydra reports only the first.
    """
    try:
        return compose_root("train", overrides)
    except Exception as error:
        first = explain(error) or uncomposed(error, "train", overrides)
    accepted: list[str] = []
    problems: list[UserError] = []
    for override in sorted(overrides, key=_is_value):
        try:
            compose_root("train", [*accepted, override])
            accepted.append(override)
        except Exception as error:
            problems.append(explain(error) or uncomposed(error, "train", [override]))
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


def _summary(config: Config, directory: str) -> str:
    import torch

    from retro_lab.run.backbone import with_backbone
    from retro_lab.run.model import build_model

    config = with_backbone(config)
    with torch.device("meta"):
        model = build_model(config)
    parameters = sum(weight.numel() for weight in model.parameters())
    chunking = config.chunking
    rows = {
        "run directory": directory,
        "parameters": f"{parameters:,}",
        "windows": f"{chunking.sequence_length} tokens = "
        f"{chunking.sequence_length // chunking.chunk_size} chunks of {chunking.chunk_size}, "
        f"evaluated every {config.scored_stride} tokens",
        "training": f"{config.schedule.steps} steps of {config.schedule.batch_size} windows",
    }
    if config.retriever.retrieves:
        length = chunking.chunk_size * (1 + chunking.continuation_chunks)
        rows["CCA"] = f"layers {as_text(config.cca_layers)} of {config.model.num_layers}"
        rows["neighbours"] = (
            f"{config.neighbours.k} of {length} tokens a chunk, found by {config.retriever.name}"
        )
        rows["database"] = (
            f"chunks of {config.database.in_words()}, never of the document that they are read in"
        )
    else:
        rows["retrieval"] = "none: this is a baseline"
    return "\n".join(f"{name + ':':<15}{value}" for name, value in rows.items())

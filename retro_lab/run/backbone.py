"""Configurations with a Hugging Face backbone: copies its sizes and checks settings against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from retro_lab.config.errors import ConfigError, UserError, problem
from retro_lab.config.rules import cca_layers
from retro_lab.config.schema import Config, HfTokenizerConfig, PositionKind

if TYPE_CHECKING:
    from torch import Tensor


def with_backbone(config: Config) -> Config:
    """The configuration with the backbone's sizes; unchanged if there is no backbone.

    Reads only the backbone's configuration and tokenizer, no weights.

    Raises:
        UserError: the backbone can't be loaded, or its architecture can't be grafted on.
        ConfigError: lists every setting that doesn't fit the backbone.
    """
    name = config.recipe.backbone
    if name is None:
        return config
    from retro_lab.huggingface.backbones import read_config, sizes

    found = sizes(read_config(name))
    own = {key: getattr(found, key) for key in ("d_model", "num_layers", "num_heads", "head_dim")}
    model = dataclasses.replace(config.model, **own, d_ff=found.d_ff)
    config = dataclasses.replace(config, model=model)
    problems = [*_shape(config, found.max_length), *_vocabulary(config, found.vocab_size)]
    if problems:
        raise ConfigError(problems)
    return config


def backbone_weights(config: Config) -> dict[str, Tensor]:
    """The pretrained weights of the run's backbone, by state-dict name.

    Raises:
        UserError: the weights can't be loaded.
    """
    from retro_lab.huggingface.backbones import load_weights

    assert config.recipe.backbone is not None
    return load_weights(config.recipe.backbone)


def _shape(config: Config, max_length: int | None) -> Iterator[UserError]:
    if config.retriever.retrieves:
        yield from cca_layers(config)
        if config.model.positions is PositionKind.rotary and config.model.head_dim % 2:
            yield problem(
                "model.positions",
                config.model.positions,
                f"turns pairs of dimensions, and the backbone's heads have {config.model.head_dim}",
                "model.positions=relative",
            )
    length = config.chunking.sequence_length
    if max_length is not None and length > max_length:
        size = config.chunking.chunk_size
        yield problem(
            "chunking.sequence_length",
            length,
            f"the backbone reaches over {max_length} tokens at most",
            f"chunking.sequence_length={max_length // size * size}",
        )


def _vocabulary(config: Config, vocab_size: int) -> Iterator[UserError]:
    if not isinstance(config.tokenizer, HfTokenizerConfig):
        return
    from retro_lab.text.tokenizers.huggingface import load_source

    source = load_source(config.tokenizer.path)
    ids = source.num_ids
    if ids > vocab_size:
        yield problem(
            "tokenizer.path",
            config.tokenizer.path,
            f"makes ids up to {ids - 1}, but the backbone knows {vocab_size} tokens",
            "tokenizer.path=<the tokenizer that the backbone was trained with>",
        )
    elif source.spells:
        yield problem(
            "tokenizer.path",
            config.tokenizer.path,
            "loses text, which needs tokens of its own, and the backbone has none",
            "a backbone whose tokenizer works on bytes, or falls back to them",
        )

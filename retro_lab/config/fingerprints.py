"""Run identity: which settings make a run what it is, hashed; the same run, the same directory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from .backbone import identity, plain_name, tokenizer_path
from .databases import is_training_split
from .rules.bounds import text as as_typed
from .schema import (
    RETRIEVAL_SETTINGS,
    AdamWConfig,
    BpeTokenizerConfig,
    CcaConfig,
    Config,
    DatabaseConfig,
    EvalConfig,
    Freeze,
    HashingEmbedderConfig,
    HfTokenizerConfig,
    Method,
    ModelConfig,
    MuonConfig,
    NeighboursConfig,
    NoneRetrieverConfig,
    OptimConfig,
    PlainConfig,
    PlainMatch,
    RecipeConfig,
    ScheduleConfig,
    resolve_layers,
)
from .serialise import flatten, to_plain

SCHEMA_VERSION = 1

# Left out of the key, because the trained weights don't depend on them: what is measured and
# logged afterwards, where things lie, and who prepares them.
_OUTSIDE = ("logger", "eval", "plain", "store", "prepare", "runs_dir", "resume", "objective")
# Of the trainer only precision changes what is computed; min_coverage only decides on an error.
_TRAINER_FIELDS = ("precision",)
_THRESHOLDS = ("min_coverage",)
# Of the neighbours, filters that are as good as not there while they are off.
_FILTERS = ("max_jaccard", "dedup")
# Of the recipe, what only a retrofit has.
_SECOND_PHASE = ("freeze", "unfreeze_after", "steps", "lr", "warmup_steps", "optim")
# What a checkpoint's weights were trained as; the data behind them has its lineage.
_OF_WEIGHTS = ("model", "cca", "chunking", "recipe", "optim", "schedule", "seed")
# Settings of a part that is left out, and rhythm.
_OF_POINTER = ("pointer_heads", "pointer_start", "match_bias")
_RHYTHM = ("val_every",)
# Of the model, what a backbone brings with it.
_OF_BACKBONE = ("d_model", "num_layers", "num_heads", "head_dim", "d_ff")
# Of the evaluation: a label, a speed, what is shown besides the figures, and the rivals and the
# leak experiment, whose own settings are recorded with their own figures; so are those that only a
# benchmark has.
_EVAL_OUTSIDE = ("name", "batch_size", "pages", "rivals", "injection")
# Switches of later parts, which older records don't have.
_SWITCHES = ("words", "max_run", "without_pointer")
_EVAL_FIELDS = {field.name for field in dataclasses.fields(EvalConfig)} - set(_EVAL_OUTSIDE)


def has_retrieval(config: Config) -> bool:
    """Whether the run has neighbours; `retriever=none` is the one spelling of the baseline."""
    return not isinstance(config.retriever, NoneRetrieverConfig)


def canonical(config: Config) -> Config:
    """The same run with every setting that cannot matter put to one fixed value.

    A database that comes to the training split is written as such. Without retrieval these are
    the database, CCA, neighbours, the encoder and all else of the model that reads
    neighbours, continuation, embedder, baseline and all of the recipe but smeared keys, so that
    such points of a sweep are one run. With a backbone they are the sizes and the tokenizer that it
    brings; without retrieval it is not trained either, so optimiser, schedule and seed go too.
    """
    if config.recipe.backbone is not None:
        config = _of_backbone(config, config.recipe.backbone)
    if not has_retrieval(config) or is_training_split(config.database):
        config = dataclasses.replace(config, database=DatabaseConfig())
    if has_retrieval(config):
        return config
    recipe = RecipeConfig(
        name="none",
        method=Method.scratch,
        smeared_keys=config.recipe.smeared_keys,
        pointer=False,
        backbone=config.recipe.backbone,
        freeze=Freeze.none,
    )
    without = {name: getattr(ModelConfig(), name) for name in RETRIEVAL_SETTINGS}
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **without),
        cca=CcaConfig(),
        recipe=recipe,
        chunking=dataclasses.replace(config.chunking, continuation_chunks=1),
        neighbours=NeighboursConfig(),
        retriever=NoneRetrieverConfig(),
        embedder=HashingEmbedderConfig(),
        baseline=None,
        eval=dataclasses.replace(config.eval, k=None),
    )


def _of_backbone(config: Config, backbone: str) -> Config:
    plain = ModelConfig()
    sizes = {name: getattr(plain, name) for name in _OF_BACKBONE}
    model = dataclasses.replace(config.model, name=plain_name(backbone), **sizes)
    tokenizer = config.tokenizer
    if tokenizer == BpeTokenizerConfig() and (path := tokenizer_path(backbone)) is not None:
        tokenizer = HfTokenizerConfig(path=path)
    config = dataclasses.replace(
        config,
        model=model,
        tokenizer=tokenizer,
        recipe=dataclasses.replace(config.recipe, smeared_keys=False),
    )
    if has_retrieval(config):
        return config
    untrained = dataclasses.replace(plain, name=model.name)
    return dataclasses.replace(
        config, model=untrained, optim=AdamWConfig(), schedule=ScheduleConfig(), seed=1
    )


def baseline_of(config: Config) -> Config:
    """The run without retrieval that `config` compares with, shared by all that have the same
    data, size, optimiser and seed.
    """
    return canonical(dataclasses.replace(config, retriever=NoneRetrieverConfig()))


def is_retrofit(config: Config) -> bool:
    """Whether retrieval is grafted on a trained backbone."""
    return has_retrieval(config) and config.recipe.method is Method.retrofit


def steps_of(config: Config) -> int:
    """Optimiser steps that a run reads training tokens in, the backbone's included."""
    return config.schedule.steps + (config.recipe.steps if is_retrofit(config) else 0)


def plain_of(config: Config, steps: int) -> Config:
    """The plain model that the gain of `config` is measured against: its baseline, trained longer.

    Args:
        steps: `steps_of(config)` for as many training tokens.
    """
    schedule = dataclasses.replace(config.schedule, steps=steps)
    optim = config.optim if config.plain.lr is None else at_rate(config.optim, config.plain.lr)
    return baseline_of(dataclasses.replace(config, schedule=schedule, optim=optim))


def at_rate(optim: OptimConfig, lr: float) -> OptimConfig:
    """The optimiser at another learning rate; Muon's own rate keeps its proportion."""
    if isinstance(optim, MuonConfig):
        return dataclasses.replace(optim, lr=lr, muon_lr=optim.muon_lr * lr / optim.lr)
    return dataclasses.replace(optim, lr=lr)


def wanted_plain(config: Config) -> PlainConfig | None:
    """How the plain model is matched; None where none is asked for or none can be trained.

    A pretrained backbone has none: nothing that we train has read as much as it has.
    """
    if not has_retrieval(config) or config.baseline is None or config.recipe.backbone is not None:
        return None
    return None if config.plain.match is PlainMatch.none else config.plain


def run_fields(config: Config) -> dict[str, Any]:
    """Every setting that changes the result of training, as plain data."""
    config = canonical(config)
    fields: dict[str, Any] = {
        name: value for name, value in _numbers(to_plain(config)).items() if name not in _OUTSIDE
    }
    fields["trainer"] = {name: fields["trainer"][name] for name in _TRAINER_FIELDS}
    if is_training_split(config.database):
        del fields["database"]
    else:
        del fields["database"]["name"]
    if not config.retriever.needs_embeddings:
        del fields["embedder"]
    for name in config.retriever.outside:
        del fields["retriever"][name]
    for part in ("retriever", "embedder"):
        for name, value in getattr(config, part).added.items():
            if part in fields and fields[part][name] == value:
                del fields[part][name]
    if has_retrieval(config):
        if config.recipe.backbone is None:
            layers = list(resolve_layers(config.cca, config.model.num_layers))
            fields["cca"] = {"layers": layers}
        for name in _THRESHOLDS:
            del fields["neighbours"][name]
        for name in _FILTERS:
            if fields["neighbours"][name] is None:
                del fields["neighbours"][name]
        for name in _unused_of_recipe(config.recipe):
            del fields["recipe"][name]
    else:
        for name in ("cca", "neighbours", "baseline"):
            del fields[name]
        fields["recipe"] = {name: fields["recipe"][name] for name in ("smeared_keys", "backbone")}
        for name in RETRIEVAL_SETTINGS:
            del fields["model"][name]
        del fields["chunking"]["continuation_chunks"]
    if config.recipe.backbone is None:
        del fields["recipe"]["backbone"]
    else:
        fields["recipe"]["backbone"] = identity(config.recipe.backbone)
        for name in _OF_BACKBONE:
            del fields["model"][name]
    return fields


def weights_fields(config: Config) -> dict[str, Any]:
    """Dotted key and value of every setting that a checkpoint's weights go with."""
    fields = run_fields(config)
    return flatten({name: fields[name] for name in _OF_WEIGHTS if name in fields})


def differing(of_checkpoint: dict[str, Any], of_run: dict[str, Any]) -> list[str]:
    """What differs among the keys that both have, in words; versions may add and drop keys."""
    return [
        f"{key} was {as_typed(value)}, is {as_typed(of_run[key])}"
        for key, value in of_checkpoint.items()
        if key in of_run and of_run[key] != value
    ]


def _unused_of_recipe(recipe: RecipeConfig) -> list[str]:
    """Settings of a recipe that do not change what it trains."""
    unused: list[str] = [*_RHYTHM]
    if recipe.method is Method.scratch:
        unused += _SECOND_PHASE
    if not recipe.pointer:
        unused += _OF_POINTER
    elif not recipe.match_bias:
        unused.append("pointer_start")
    return unused


def eval_fields(evaluation: EvalConfig, plain: PlainConfig | None = None) -> dict[str, Any]:
    """Every setting that changes the figures of an evaluation, as plain data.

    Args:
        plain: how the plain model that was scored is matched; None if none was.
    """
    fields = {k: v for k, v in _numbers(to_plain(evaluation)).items() if k in _EVAL_FIELDS}
    for name in _SWITCHES:
        if not fields[name]:  # as if it were not there
            del fields[name]
    return fields if plain is None else fields | {"plain": to_plain(plain)}


def run_key(config: Config) -> str:
    """64 hex digits that name the run: sha256 of the canonical JSON of `run_fields`."""
    document = {"schema_version": SCHEMA_VERSION, **run_fields(config)}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_name(config: Config) -> str:
    """Name of the run's directory, readable first, unique by the first digits of its key."""
    config = canonical(config)  # a backbone gives its name
    parts = [config.model.name, config.retriever.name]
    if has_retrieval(config):
        parts.append(f"k{config.neighbours.k}")
    else:
        parts[1] = "none"
    return "-".join([*parts, f"s{config.seed}", run_key(config)[:8]])


def _numbers(value: Any) -> Any:
    """1.0 and 1 are one value, as they are in YAML."""
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value

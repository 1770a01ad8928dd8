"""Run identity: hashes of the settings that change a run's results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from .backbone import identity, plain_name, tokenizer_path
from .errors import as_text
from .schema import (
    BACKBONE_SETTINGS,
    CHANGING_EXTRA,
    RETRIEVAL_SETTINGS,
    AdamWConfig,
    BpeTokenizerConfig,
    CallbacksConfig,
    CcaConfig,
    Config,
    DatabaseConfig,
    EvalConfig,
    Freeze,
    HashingEmbedderConfig,
    HfTokenizerConfig,
    MemoryConfig,
    Method,
    ModelConfig,
    MuonConfig,
    NeighboursConfig,
    NgramTableConfig,
    NoneRetrieverConfig,
    OptimConfig,
    PlainConfig,
    RecipeConfig,
    ScheduleConfig,
    left_out,
)
from .serialise import TAG, flatten, to_plain

SCHEMA_VERSION = 1

# Groups that a checkpoint's weights depend on; the lineage covers the data.
_OF_WEIGHTS = ("model", "cca", "chunking", "recipe", "optim", "schedule", "memory", "seed")
_OF_JOINT_TRAINING = ("joint", "experts", "max_run", "gate_tokens")


def canonical(config: Config) -> Config:
    """The same run with every unused setting at its default, so that equal runs share one key.

    A database equal to the training split becomes `DatabaseConfig()`. Without retrieval, the unused
    settings are the database, CCA, neighbours, encoder, continuation, embedder, baseline and all of
    the recipe but smeared keys. With a backbone they are the sizes and the tokenizer; a backbone
    alone is not trained, so optimiser, schedule, seed and callbacks are unused too. If it is
    trained further, schedule and optimiser become those of `recipe.further_steps`.
    Without rows, an n-gram table has no other settings.
    """
    if config.recipe.backbone is not None:
        config = _of_backbone(config, config.recipe.backbone)
    if not config.model.ngram_table.rows:
        model = dataclasses.replace(config.model, ngram_table=NgramTableConfig())
        config = dataclasses.replace(config, model=model)
    retrieves = config.retriever.retrieves
    searched = retrieves or bool(config.memory.experts)
    if not searched or config.database.is_training_split:
        config = dataclasses.replace(config, database=DatabaseConfig())
    if retrieves:
        return config
    recipe = RecipeConfig(
        name="none",
        method=Method.scratch,
        smeared_keys=config.recipe.smeared_keys,
        pointer=False,
        backbone=config.recipe.backbone,
        freeze=Freeze.none,
        further_steps=config.recipe.further_steps,
    )
    if recipe.further_steps > 0:
        recipe = dataclasses.replace(recipe, further_lr=config.recipe.further_lr)
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
    sizes = {name: getattr(plain, name) for name in BACKBONE_SETTINGS}
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
    if config.retriever.retrieves:
        return config
    untrained = dataclasses.replace(plain, name=model.name)
    if config.recipe.further_steps > 0:
        return _trained_further(config, dataclasses.replace(untrained, dropout=model.dropout))
    return dataclasses.replace(
        config,
        model=untrained,
        optim=AdamWConfig(),
        schedule=ScheduleConfig(),
        trainer=dataclasses.replace(config.trainer, extra={}),
        callbacks=CallbacksConfig(),
        seed=1,
    )


def _trained_further(config: Config, model: ModelConfig) -> Config:
    recipe = config.recipe
    steps = recipe.further_steps
    schedule = dataclasses.replace(config.schedule, steps=steps, warmup_steps=steps // 10)
    optim = at_rate(config.optim, recipe.further_lr)
    return dataclasses.replace(config, model=model, schedule=schedule, optim=optim)


def baseline_of(config: Config) -> Config:
    """The run without retrieval that `config` is compared with.

    Runs with the same data, size, optimiser and seed share one baseline.
    """
    alone = dataclasses.replace(config, retriever=NoneRetrieverConfig(), memory=MemoryConfig())
    return canonical(alone)


def steps_of(config: Config) -> int:
    """Optimiser steps that read training tokens, including those of a retrofit's base model.

    What a pretrained backbone was trained on elsewhere is not counted.
    """
    recipe = config.recipe
    first = config.schedule.steps if recipe.backbone is None else recipe.further_steps
    return first + (recipe.steps if config.is_retrofit else 0)


def plain_of(config: Config, steps: int) -> Config:
    """The plain model that the gain of `config` is measured against: its baseline, trained longer.

    Args:
        steps: `steps_of(config)` for equal training tokens.
    """
    if config.recipe.backbone is not None:
        lr = RecipeConfig.further_lr if config.plain.lr is None else config.plain.lr
        recipe = dataclasses.replace(config.recipe, further_steps=steps, further_lr=lr)
        return baseline_of(dataclasses.replace(config, recipe=recipe))
    schedule = dataclasses.replace(config.schedule, steps=steps)
    optim = config.optim if config.plain.lr is None else at_rate(config.optim, config.plain.lr)
    return baseline_of(dataclasses.replace(config, schedule=schedule, optim=optim))


def at_rate(optim: OptimConfig, lr: float) -> OptimConfig:
    """The optimiser at another learning rate; Muon's own rate is scaled in proportion."""
    if isinstance(optim, MuonConfig):
        return dataclasses.replace(optim, lr=lr, muon_lr=optim.muon_lr * lr / optim.lr)
    return dataclasses.replace(optim, lr=lr)


def run_fields(config: Config) -> dict[str, Any]:
    """Every setting that changes the result of training, as plain data.

    Left out are settings with `identity=False` and settings of parts that this run lacks.
    """
    config = canonical(config)
    groups = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    outside = left_out(config)
    fields = {name: _identity(group) for name, group in groups.items() if name not in outside}
    extra = fields["trainer"].pop("extra", {})
    if kept := {name: extra[name] for name in CHANGING_EXTRA if name in extra}:
        fields["trainer"]["extra"] = kept
    if config.memory.joint:
        memory = to_plain(config.memory)
        fields["memory"] = {name: memory[name] for name in _OF_JOINT_TRAINING}
    if config.database.is_training_split or not config.retriever.retrieves:
        del fields["database"]
    if not config.retriever.needs_embeddings:
        del fields["embedder"]
    if config.retriever.retrieves:
        if config.recipe.backbone is None:
            fields["cca"] = {"layers": list(config.cca_layers)}
        for name in config.recipe.unused:
            del fields["recipe"][name]
    else:
        for name in ("cca", "neighbours", "baseline"):
            del fields[name]
        kept = ("smeared_keys", "backbone", "further_steps")
        fields["recipe"] = {name: v for name, v in fields["recipe"].items() if name in kept}
        for name in RETRIEVAL_SETTINGS:
            del fields["model"][name]
        del fields["chunking"]["continuation_chunks"]
    if config.recipe.backbone is None:
        del fields["recipe"]["backbone"]
    else:
        fields["recipe"]["backbone"] = identity(config.recipe.backbone)
        for name in BACKBONE_SETTINGS:
            del fields["model"][name]
    return fields


def _identity(group: Any) -> Any:
    """A group's settings that enter an identity, as plain data; a value without settings whole."""
    plain = _numbers(to_plain(group))
    outside = left_out(group) if dataclasses.is_dataclass(group) else ()
    return {k: v for k, v in plain.items() if k not in outside} if outside else plain


def weights_fields(config: Config) -> dict[str, Any]:
    """Every setting that a checkpoint's weights depend on, by dotted key."""
    fields = run_fields(config)
    return flatten({name: fields[name] for name in _OF_WEIGHTS if name in fields})


def differing(of_checkpoint: dict[str, Any], of_run: dict[str, Any]) -> list[str]:
    """Describes the differing values of keys in both; versions may add or drop keys."""
    return [
        f"{key} was {as_text(value)}, is {as_text(of_run[key])}"
        for key, value in of_checkpoint.items()
        if key in of_run and of_run[key] != value
    ]


def eval_fields(
    evaluation: EvalConfig,
    plain: PlainConfig | None = None,
    memory: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Every setting that changes an evaluation's results, as plain data.

    Args:
        plain: how the plain model is matched; None if none was scored.
        memory: by `memory_fields`.
    """
    fields = {k: v for k, v in _identity(evaluation).items() if k != TAG}
    fields |= {} if plain is None else {"plain": to_plain(plain)}
    return fields if memory is None else fields | {"memory": memory}


def memory_fields(config: Config) -> dict[str, Any] | None:
    """Every setting of a memory that changes its scores, as plain data; None without a memory.

    A run without retrieval does not depend on its database, so the memory's is named here.
    """
    settings = _memory_settings(config)
    return settings and settings | {"database": to_plain(config.database)}


def _memory_settings(config: Config) -> dict[str, Any] | None:
    """What is read; how a model was trained for it is part of the run's own key."""
    if not config.memory.reads:
        return None
    return {k: v for k, v in _identity(config.memory).items() if k not in (TAG, "joint")}


def evaluation_name(asked: Config, own: Config) -> str | None:
    """The name of an evaluation among those of a run: its option and what else it looks at.

    An evaluation of a name replaces the one before it. None is the run's own kind: the evaluation
    option, split, memory and plain model that it was trained with.

    Args:
        asked: the run's configuration, with the evaluation's settings.
        own: the configuration that the run was trained with.
    """
    parts = [asked.eval.name]
    if asked.eval.split != own.eval.split:
        parts.append(asked.eval.split)
    if _memory_settings(asked) != _memory_settings(own):
        cache = "_cache" if asked.memory.cache else ""
        parts.append(f"memory_{asked.memory.name}{cache}")
    if asked.wanted_plain != own.wanted_plain:
        parts.append(f"plain_{asked.plain.match.name}")
    name = "-".join(parts)
    return None if name == own.eval.name else name


def database_key(database: DatabaseConfig) -> str:
    """8 hex digits that identify a database by its settings."""
    settings = {k: v for k, v in to_plain(database).items() if k not in left_out(database)}
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_key(config: Config) -> str:
    """64 hex digits that identify the run: SHA-256 of the canonical JSON of `run_fields`."""
    document = {"schema_version": SCHEMA_VERSION, **run_fields(config)}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_name(config: Config, key: str | None = None) -> str:
    """Name of the run's directory: readable parts, then the first 8 digits of the run key.

    Args:
        key: the run key, if it is known.
    """
    config = canonical(config)  # a backbone's run is named after the backbone
    parts = [config.model.name, "none"]
    if config.retriever.retrieves:
        parts = [config.model.name, config.retriever.name, f"k{config.neighbours.k}"]
    return "-".join([*parts, f"s{config.seed}", (key or run_key(config))[:8]])


def _numbers(value: Any) -> Any:
    """Converts whole floats to int: 1.0 and 1 are equal in YAML."""
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value

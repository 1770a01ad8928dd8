"""Rules between settings of different groups; all broken rules are reported at once.

Rules within one group stand beside its fields, in `schema/`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from .backbone import tokenizer_path
from .errors import ConfigError, UserError, problem
from .fingerprints import canonical
from .retrieval_rules import RETRIEVAL_RULES
from .rival_rules import rivals
from .schema import (
    Config,
    HfTokenizerConfig,
    Method,
    MuonConfig,
    Objective,
    QaConfig,
    ValueKind,
)
from .schema.setting import own_problems

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")


def check(config: Config) -> None:
    """Refuses a configuration that cannot run.

    Settings that the run doesn't use, such as CCA with `retriever=none`, are not checked.

    Raises:
        ConfigError: holds every problem with key, value, rule and fix.
    """
    config = canonical(config)
    broken = [*own_problems(config), *(found for rule in _RULES for found in rule(config))]
    if broken:
        raise ConfigError(broken)


def check_choosing(config: Config) -> None:
    """Refuses to tune settings on a split other than validation, or on a gain without plain model.

    Raises:
        UserError: for either.
    """
    if config.eval.split != "validation":
        raise UserError(
            f"eval.split={config.eval.split}: an optimiser chooses on the validation split; a "
            "score that settings were chosen by says nothing of other text",
            fix="eval.split=validation, and evaluate the chosen run on the test split once",
        )
    over_itself = config.memory.reads and not config.retriever.retrieves
    if config.objective is Objective.gain and config.wanted_plain is None and not over_itself:
        raise UserError(
            "objective=gain: a gain is over a plain model, and this run has none (retriever=none "
            "without a memory, plain=none, baseline=null or a training that may end early)",
            fix="objective=bpb, or train with retrieval and plain=tokens",
        )


def _names(config: Config) -> Iterator[UserError]:
    for key, name in {
        "model.name": config.model.name,
        "retriever.name": config.retriever.name,
        "eval.name": config.eval.name,
        "memory.name": config.memory.name,
    }.items():
        if not _SAFE_NAME.fullmatch(name):
            rule = "is part of a directory's name: letters, digits, _ and . only"
            yield problem(key, name, rule, f"set {key} to a plain word")


def _model(config: Config) -> Iterator[UserError]:
    model = config.model
    if model.value is ValueKind.continuation and not config.chunking.continuation_chunks:
        yield problem(
            "model.value",
            model.value,
            "chunking.continuation_chunks=0 leaves nothing of the neighbours to read",
            "chunking.continuation_chunks=1, or model.value=neighbour",
        )
    own = config.recipe.backbone is None  # a backbone's sizes are unknown until it is loaded
    if not own and model.ngram_table.rows:
        yield problem(
            "model.ngram_table.rows",
            model.ngram_table.rows,
            "recipe.backbone is given, whose layers are not ours to read a table in",
            "model.ngram_table.rows=0",
        )
    if own and model.share_embeddings and model.d_model != model.encoder.d_model:
        yield problem(
            "model.share_embeddings",
            True,
            f"needs equal widths, but model.d_model={model.d_model} and "
            f"model.encoder.d_model={model.encoder.d_model}",
            f"model.encoder.d_model={model.d_model}, or model.share_embeddings=false",
        )


def _cca(config: Config) -> Iterator[UserError]:
    if config.retriever.retrieves and config.recipe.backbone is None:
        yield from cca_layers(config)


def cca_layers(config: Config) -> Iterator[UserError]:
    """Problems of the CCA layers in a model of `model.num_layers`.

    A backbone's layers are checked once its depth is known.
    """
    num_layers, layers = config.model.num_layers, config.cca_layers
    explicit = config.cca.layers is not None
    key = "cca.layers" if explicit else "cca"
    value = config.cca.layers if explicit else config.cca.placement
    if not layers:
        yield problem(key, value, f"gives a model of {num_layers} layers no CCA at all", "cca=mid")
    elif layers[0] < 1 or layers[-1] > num_layers:
        yield problem(
            key, value, f"layers count from 1 to {num_layers} (model.num_layers)", "cca=mid"
        )


def _recipe(config: Config) -> Iterator[UserError]:
    recipe, model = config.recipe, config.model
    if config.is_retrofit and config.baseline is None and recipe.backbone is None:
        yield problem(
            "baseline",
            None,
            "recipe.method=retrofit starts from the trained baseline",
            "baseline=auto, or recipe=scratch",
        )
    width = model.num_heads * model.head_dim
    if recipe.pointer and recipe.pointer_heads > 0 and width % recipe.pointer_heads:
        yield problem(
            "recipe.pointer_heads",
            recipe.pointer_heads,
            f"must divide the width of attention, model.num_heads * model.head_dim = {width}",
            f"recipe.pointer_heads={math.gcd(width, recipe.pointer_heads)}",
        )


def _backbone(config: Config) -> Iterator[UserError]:
    """A pretrained backbone needs its own tokenizer, and retrieval needs recipe=retrofit."""
    recipe = config.recipe
    if recipe.backbone is None:
        return
    if config.retriever.retrieves and recipe.method is Method.scratch:
        yield problem(
            "recipe.backbone",
            recipe.backbone,
            "from scratch, nothing is grafted on a pretrained model",
            "recipe=retrofit, or recipe.backbone=null",
        )
    if isinstance(config.tokenizer, HfTokenizerConfig):
        return
    if tokenizer_path(recipe.backbone) is None:
        yield problem(
            "recipe.backbone",
            recipe.backbone,
            "is a GGUF model, which comes without a usable tokenizer",
            "tokenizer=hf tokenizer.path=<its tokenizer on the hub or in a folder>, or put its "
            "tokenizer.json beside the file",
        )
    else:
        yield problem(
            "tokenizer",
            config.tokenizer.name,
            "a backbone reads the token ids that it was trained with (recipe.backbone)",
            "leave tokenizer out, or tokenizer=hf tokenizer.path=<the backbone's>",
        )


def _further(config: Config) -> Iterator[UserError]:
    """Only a pretrained backbone without retrieval is trained further."""
    recipe = config.recipe
    if recipe.further_steps <= 0:
        return
    rule, fix = "trains a pretrained model further", "schedule.steps, or recipe.backbone=<model>"
    if config.retriever.retrieves:
        rule = f"trains a backbone without retrieval, and retriever={config.retriever.name}"
        fix = "retriever=none, or recipe.steps for the graft (its plain model follows plain.match)"
    elif recipe.backbone is not None:
        return
    yield problem("recipe.further_steps", recipe.further_steps, rule, fix)


def _batch(config: Config) -> Iterator[UserError]:
    if config.is_backbone_alone:
        return  # nothing is trained
    trainer, batch_size = config.trainer, config.schedule.batch_size
    shares = trainer.devices * trainer.num_nodes * trainer.accumulate
    if shares > 0 and batch_size % shares:
        yield problem(
            "schedule.batch_size",
            batch_size,
            "must divide among trainer.devices * trainer.num_nodes * trainer.accumulate = "
            f"{shares} micro-batches",
            f"schedule.batch_size={-(-batch_size // shares) * shares}",
        )


def _sharding(config: Config) -> Iterator[UserError]:
    if config.trainer.strategy != "fsdp":
        return
    if config.trainer.accelerator == "cpu":
        yield problem(
            "trainer.strategy",
            config.trainer.strategy,
            "shards a model over GPUs, and trainer.accelerator=cpu",
            "trainer=ddp, which works on a CPU; or trainer.accelerator=gpu",
        )
    for key, optim in {"optim": config.optim, "recipe.optim": config.recipe.optim}.items():
        if isinstance(optim, MuonConfig):
            yield UserError(
                f"{key}=muon needs whole matrices, which trainer.strategy=fsdp shards",
                fix="use optim=adamw, or trainer=ddp",
            )


def _memory(config: Config) -> Iterator[UserError]:
    """States of the language model are known in its training split alone."""
    if "knn" in config.memory.experts and not config.database.is_training_split:
        rule = f"knn searches the training split alone, not database={config.database.name}"
        fix = "memory=suffix_topic, which reads any database"
        yield problem("memory.experts", config.memory.experts, rule, fix)


def _joint(config: Config) -> Iterator[UserError]:
    """A model is trained through its memory if it is trained, on the text that its key names."""
    if not config.memory.joint:
        return
    rule, fix = None, "memory.joint=0"
    if config.is_backbone_alone:
        rule = f"nothing of recipe.backbone={config.recipe.backbone} is trained without a retriever"
        fix = "memory.joint=0, or recipe.further_steps=<steps>"
    elif not config.database.is_training_split:
        rule = f"training reads the training split alone, not database={config.database.name}"
        fix = "memory.joint=0, or database=train and then evaluate.py with this database"
    elif config.trainer.strategy == "fsdp":
        rule = "trainer.strategy=fsdp shards the model, and its gate is fitted on the whole one"
        fix = "trainer.strategy=ddp, or memory.joint=0"
    if rule is not None:
        yield problem("memory.joint", config.memory.joint, rule, fix)


def _questions(config: Config) -> Iterator[UserError]:
    asked, size = config.eval, config.chunking.chunk_size
    if not isinstance(asked, QaConfig):
        return
    read = config.scored_k + asked.in_prompt
    if asked.passages < read:
        yield problem(
            "eval.passages",
            asked.passages,
            f"{read} passages are read: eval.k and eval.in_prompt together",
            f"eval.passages={read}",
        )
    if asked.answer_tokens > size:
        yield problem(
            "eval.answer_tokens",
            asked.answer_tokens,
            f"an answer reads what its question found for one chunk of {size} tokens",
            f"eval.answer_tokens={size}",
        )
    if asked.left_pad and config.recipe.backbone is not None:
        yield problem(
            "eval.left_pad",
            True,
            "a run grafted on a pretrained model can't pad its prompts on the left",
            "eval.left_pad=false",
        )


_RULES = (
    _names,
    _model,
    _cca,
    *RETRIEVAL_RULES,
    _recipe,
    _backbone,
    _further,
    _batch,
    _sharding,
    rivals,
    _memory,
    _joint,
    _questions,
)

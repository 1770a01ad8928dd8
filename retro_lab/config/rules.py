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
from .schema import (
    OF_ANY_MODEL,
    Config,
    HfTokenizerConfig,
    Method,
    MuonConfig,
    NorlundCorpusConfig,
    Objective,
    QaConfig,
    Reference,
    StoredRetrieverConfig,
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
    if config.objective is Objective.gain and config.wanted_plain is None:
        raise UserError(
            "objective=gain: a gain is over a plain model, and this run has none (retriever=none, "
            "plain=none, baseline=null, a pretrained backbone or a training that may end early)",
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


def _chunking(config: Config) -> Iterator[UserError]:
    size, length = config.chunking.chunk_size, config.chunking.sequence_length
    if size < 2:
        return  # reported by its bounds
    if length % size or length < 2 * size:
        fitting = max(2, round(length / size)) * size
        yield problem(
            "chunking.sequence_length",
            length,
            f"must be two or more whole chunks of {size} (chunking.chunk_size)",
            f"chunking.sequence_length={fitting}",
        )
    stride = config.eval.stride
    if stride is not None and (stride % size or not size <= stride <= length):
        yield problem(
            "eval.stride",
            stride,
            f"must be whole chunks of {size}, at most chunking.sequence_length={length}",
            "eval.stride=null (half the sequence length)",
        )


def _stored_neighbours(config: Config) -> Iterator[UserError]:
    if not config.retriever.retrieves:
        return
    evaluation, k_store = config.eval, config.neighbours.k_store
    rule = f"only {k_store} neighbours are stored (neighbours.k_store)"
    if (evaluation.k or 0) > k_store:
        yield problem(
            "eval.k",
            evaluation.k,
            rule,
            f"eval.k={k_store}, or train with a larger neighbours.k_store",
        )
    searched = evaluation.overlap_neighbours
    own = evaluation.reference is Reference.own_neighbours
    if evaluation.leakage and own and searched > k_store:
        yield problem(
            "eval.overlap_neighbours",
            searched,
            rule,
            f"neighbours.k_store={searched}, or eval.overlap_neighbours={k_store}",
        )


def _leak_filter(config: Config) -> Iterator[UserError]:
    """Refuses a filter that could never drop a neighbour."""
    if not config.retriever.retrieves:
        return
    chunking = config.chunking
    compared = min(2, 1 + chunking.continuation_chunks) * chunking.chunk_size
    given = {"neighbours.max_run": config.neighbours.max_run, "eval.max_run": config.eval.max_run}
    for key, run in given.items():
        if run is not None and run > compared:
            yield problem(
                key,
                run,
                f"texts of {compared} tokens are compared, so it would never drop a neighbour",
                f"{key}={max(1, chunking.chunk_size // 2)}, or null to keep all",
            )


def _stored(config: Config) -> Iterator[UserError]:
    if not isinstance(config.retriever, StoredRetrieverConfig):
        return
    if not isinstance(config.corpus, NorlundCorpusConfig):
        yield problem(
            "retriever",
            "stored",
            f"corpus={config.corpus.name} brings no neighbours with it",
            "corpus=norlund corpus.path=data.spec.json, or a retriever that searches",
        )
    elif not config.database.is_training_split:
        yield problem(
            "retriever",
            "stored",
            "the corpus's own neighbours lie in its training split: nothing else is searched",
            "database=train",
        )


def _imported(config: Config) -> Iterator[UserError]:
    """A dataset of tokens needs the tokenizer that made it."""
    corpus, tokenizer = config.corpus, config.tokenizer
    if not isinstance(corpus, NorlundCorpusConfig):
        return
    if not isinstance(tokenizer, HfTokenizerConfig) or corpus.tokenizer != tokenizer.path:
        yield problem(
            "corpus.tokenizer",
            corpus.tokenizer,
            "corpus=norlund holds tokens, so it takes the tokenizer that made them",
            "tokenizer=hf tokenizer.path=t5-base, and corpus.tokenizer left as it is",
        )


def _embedder(config: Config) -> Iterator[UserError]:
    """A pretrained encoder needs a name if the retriever embeds."""
    for name in ("model", "query_model", "key_model"):
        if config.retriever.needs_embeddings and getattr(config.embedder, name, None) == "":
            yield UserError(
                f"embedder.{name} has no value and needs one",
                fix=f"embedder.{name}=<hub name or local folder>, or embedder=minilm",
            )


def _database(config: Config) -> Iterator[UserError]:
    if not config.retriever.retrieves:
        return
    chosen, evaluation = config.database, config.eval
    exact = evaluation.leakage and evaluation.reference is Reference.exact_corpus
    if exact and evaluation.split in chosen.splits and evaluation.split != "train":
        yield problem(
            "database.splits",
            chosen.splits,
            f"every chunk of the {evaluation.split} split stands in the database, so its exact "
            "overlap says nothing (eval.reference=exact_corpus)",
            "eval.reference=own_neighbours, or database=planted, whose copies are counted apart",
        )
    if evaluation.injection.doses:
        yield from _injection(config)


def _injection(config: Config) -> Iterator[UserError]:
    """Doses must be valid shares, and planted text must be separate from the training text."""
    evaluation, doses = config.eval, config.eval.injection.doses
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


def _ngram(config: Config) -> Iterator[UserError]:
    ngram, size = config.eval.ngram, config.chunking.chunk_size
    if ngram is not None and ngram > size:
        yield problem(
            "eval.ngram",
            ngram,
            f"no chunk of {size} tokens (chunking.chunk_size) holds so long an n-gram",
            f"eval.ngram={min(8, size)}",
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


def _batch(config: Config) -> Iterator[UserError]:
    if config.recipe.backbone is not None and not config.retriever.retrieves:
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


def _rivals(config: Config) -> Iterator[UserError]:
    which = config.eval.rivals.names
    if not which:
        return
    if config.eval.split != "test":
        yield problem(
            "eval.split",
            config.eval.split,
            "rivals learn from the training split and are tuned on validation",
            "eval.split=test",
        )
    if not config.database.is_training_split:
        yield problem(
            "database",
            config.database.name,
            "rivals learn from the training split, and must search what RETRO searches",
            "database=train, or another eval",
        )
    own = [name for name in which if name not in OF_ANY_MODEL]
    if config.recipe.backbone is not None and own:
        yield problem(
            "eval.rivals.which",
            config.eval.rivals.which,
            "recipe.backbone is given, and these need a model that this project trains: "
            f"{', '.join(own)}",
            f"eval.rivals.which=[{','.join(OF_ANY_MODEL)}]",
        )
    if "ralm" in which:
        yield from _ralm(config)
    segment, step = config.eval.rivals.dynamic.segment, config.scored_stride
    length = config.chunking.sequence_length
    if "dynamic_evaluation" in which and segment and (step % segment or length % segment):
        yield problem(
            "eval.rivals.dynamic.segment",
            segment,
            f"does not divide the evaluation's stride of {step} tokens and its window of {length}",
            f"eval.rivals.dynamic.segment={config.chunking.chunk_size}",
        )


def _ralm(config: Config) -> Iterator[UserError]:
    """A retrieved passage must leave room, and a stride must not straddle two windows."""
    size, length = config.chunking.chunk_size, config.chunking.sequence_length
    step, ralm = config.scored_stride, config.eval.rivals.ralm
    room = length - size * (1 + max(ralm.continuations, default=0))
    for stride in ralm.strides:
        if stride < 1:
            continue  # reported with the grids
        if step % stride or length % stride:
            yield problem(
                "eval.rivals.ralm.strides",
                ralm.strides,
                f"{stride} does not divide the evaluation's stride of {step} tokens and its "
                f"window of {length}",
                f"eval.rivals.ralm.strides=[{size}]",
            )
        elif stride > room:
            yield problem(
                "eval.rivals.ralm.continuations",
                ralm.continuations,
                f"the passage leaves {max(room, 0)} of {length} tokens for the text, fewer than "
                f"the stride of {stride}",
                "eval.rivals.ralm.continuations=[0], or a longer chunking.sequence_length",
            )


def _memory(config: Config) -> Iterator[UserError]:
    """States are known of a model of this project's own, in its training split."""
    if "knn" not in config.memory.experts:
        return
    rule = None
    if config.recipe.backbone is not None:
        rule = (
            f"knn reads no states of a pretrained model (recipe.backbone={config.recipe.backbone})"
        )
    elif not config.database.is_training_split:
        rule = f"knn searches the training split alone, not database={config.database.name}"
    if rule is not None:
        fix = "memory=suffix_topic, which reads any database and model"
        yield problem("memory.experts", config.memory.experts, rule, fix)


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
    _chunking,
    _stored_neighbours,
    _leak_filter,
    _stored,
    _imported,
    _embedder,
    _database,
    _ngram,
    _recipe,
    _backbone,
    _batch,
    _sharding,
    _rivals,
    _memory,
    _questions,
)

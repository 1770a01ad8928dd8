"""Rules between settings, in one place; every broken rule is reported at once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from ..errors import ConfigError, UserError
from ..fingerprints import canonical, has_retrieval
from ..schema import (
    BpeTokenizerConfig,
    Config,
    EngineKind,
    MuonConfig,
    PrepareConfig,
    Reference,
)
from . import benchmark_checks, database_checks, model_checks, retrieval_checks, rival_checks
from .bounds import broken_bounds, problem, values

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")


def check(config: Config) -> None:
    """Refuses a configuration that cannot run.

    Settings that the run doesn't use are not looked at: with `retriever=none`, CCA, say.

    Raises:
        ConfigError: holds every problem, each with key, value, rule and fix.
    """
    config = canonical(config)
    broken = [found for rule in _RULES for found in rule(config)]
    if broken:
        raise ConfigError(broken)


def _names(config: Config) -> Iterator[UserError]:
    for key, value in values(config, ["model.name", "retriever.name"]):
        if not _SAFE_NAME.fullmatch(str(value)):
            rule = "is part of a directory's name: letters, digits, _ and . only"
            yield problem(key, value, rule, f"set {key} to a plain word")


def _chunking(config: Config) -> Iterator[UserError]:
    size, length = config.chunking.chunk_size, config.chunking.sequence_length
    if size < 2:
        yield problem("chunking.chunk_size", size, "must be at least 2", "chunking.chunk_size=64")
        return
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


def _neighbours(config: Config) -> Iterator[UserError]:
    if not has_retrieval(config):
        return
    k, k_store = config.neighbours.k, config.neighbours.k_store
    if k > k_store:
        yield problem(
            "neighbours.k",
            k,
            f"only {k_store} neighbours are stored (neighbours.k_store)",
            f"neighbours.k_store={k}",
        )
    if (config.eval.k or 0) > k_store:
        yield problem(
            "eval.k",
            config.eval.k,
            f"only {k_store} neighbours are stored (neighbours.k_store)",
            f"eval.k={k_store}, or train with a larger neighbours.k_store",
        )
    searched = config.eval.overlap_neighbours
    own = config.eval.reference is Reference.own_neighbours
    if config.eval.leakage and own and searched > k_store:
        yield problem(
            "eval.overlap_neighbours",
            searched,
            f"only {k_store} neighbours are stored (neighbours.k_store)",
            f"neighbours.k_store={searched}, or eval.overlap_neighbours={k_store}",
        )


def _overlap(config: Config) -> Iterator[UserError]:
    evaluation, size = config.eval, config.chunking.chunk_size
    if evaluation.ngram is not None and evaluation.ngram > size:
        yield problem(
            "eval.ngram",
            evaluation.ngram,
            f"no chunk of {size} tokens (chunking.chunk_size) holds so long an n-gram",
            f"eval.ngram={min(8, size)}",
        )
    if evaluation.reference is Reference.exact_corpus and evaluation.split == "train":
        yield problem(
            "eval.split",
            "train",
            "every chunk of the training split stands in the training text (eval.reference)",
            "eval.split=test, or eval.reference=own_neighbours",
        )


def _training(config: Config) -> Iterator[UserError]:
    if config.recipe.backbone is not None and not has_retrieval(config):
        return
    schedule, trainer = config.schedule, config.trainer
    if schedule.warmup_steps > schedule.steps:
        yield problem(
            "schedule.warmup_steps",
            schedule.warmup_steps,
            f"is more than schedule.steps={schedule.steps}",
            f"schedule.warmup_steps={schedule.steps // 10}",
        )
    shares = trainer.devices * trainer.num_nodes * trainer.accumulate
    if shares > 0 and schedule.batch_size % shares:
        fitting = -(-schedule.batch_size // shares) * shares
        yield problem(
            "schedule.batch_size",
            schedule.batch_size,
            "must divide among trainer.devices * trainer.num_nodes * trainer.accumulate = "
            f"{shares} micro-batches",
            f"schedule.batch_size={fitting}",
        )
    if config.optim.clip is not None and config.optim.clip <= 0:
        yield problem("optim.clip", config.optim.clip, "must be above 0", "optim.clip=null")
    if isinstance(config.optim, MuonConfig) and not 0 <= config.optim.momentum < 1:
        yield problem(
            "optim.momentum", config.optim.momentum, "must be in [0, 1)", "optim.momentum=0.95"
        )
    betas = getattr(config.optim, "betas", None)
    if betas is not None and (len(betas) != 2 or not all(0 <= beta < 1 for beta in betas)):
        yield problem(
            "optim.betas", betas, "must be two numbers in [0, 1)", "optim.betas=[0.9,0.95]"
        )


def _sharding(config: Config) -> Iterator[UserError]:
    if config.trainer.strategy != "fsdp":
        return
    for key, optim in {"optim": config.optim, "recipe.optim": config.recipe.optim}.items():
        if isinstance(optim, MuonConfig):
            yield UserError(
                f"{key}=muon needs whole matrices, which trainer.strategy=fsdp shards",
                fix="use optim=adamw, or trainer=ddp",
            )


def _preparation(config: Config) -> Iterator[UserError]:
    prepare = config.prepare
    if prepare.engine is EngineKind.ray:
        return
    for key, value in values(config, ["prepare.workers", "prepare.gpus_per_worker"]):
        if value != getattr(PrepareConfig, key.partition(".")[2]):
            rule = f"prepare.engine={prepare.engine.name} is one process"
            yield problem(key, value, rule, "prepare.engine=ray")


def _text_and_splits(config: Config) -> Iterator[UserError]:
    split = config.corpus.split
    shares = {"corpus.split.validation": split.validation, "corpus.split.test": split.test}
    for key, value in shares.items():
        if not 0 <= value < 1:
            yield problem(key, value, "must be in [0, 1)", f"{key}=0.05")
    if split.validation + split.test >= 1:
        yield problem(
            "corpus.split.validation",
            split.validation,
            f"with corpus.split.test={split.test} nothing is left to train on",
            "corpus.split.validation=0.05 corpus.split.test=0.15",
        )
    lists = [split.train_ids, split.validation_ids, split.test_ids]
    if any(lists) and not all(lists):
        yield UserError(
            "corpus.split: train_ids, validation_ids and test_ids go together, "
            f"but only {sum(map(bool, lists))} of 3 are set",
            fix="set all three, or none",
        )
    if isinstance(config.tokenizer, BpeTokenizerConfig) and config.tokenizer.vocab_size < 258:
        yield problem(
            "tokenizer.vocab_size",
            config.tokenizer.vocab_size,
            "must be at least 258: the 256 bytes and two special ids",
            "tokenizer.vocab_size=4096",
        )


def _evaluation(config: Config) -> Iterator[UserError]:
    evaluation = config.eval
    alphas = evaluation.alphas
    ascending = all(a < b for a, b in itertools.pairwise(alphas))
    if not alphas or not ascending or not all(0 < alpha <= 1 for alpha in alphas):
        yield problem(
            "eval.alphas",
            alphas,
            "must be shares of a chunk in (0, 1], ascending",
            "eval.alphas=[0.125,0.25,0.5,1.0]",
        )
    if not 0 < evaluation.confidence < 1:
        yield problem(
            "eval.confidence", evaluation.confidence, "must be in (0, 1)", "eval.confidence=0.95"
        )


_RULES = (
    broken_bounds,
    _names,
    model_checks.model,
    model_checks.cca,
    _chunking,
    _neighbours,
    retrieval_checks.leak_filter,
    retrieval_checks.near_duplicates,
    retrieval_checks.retriever,
    retrieval_checks.imported,
    retrieval_checks.embedder,
    database_checks.database,
    _overlap,
    model_checks.recipe,
    model_checks.backbone,
    _training,
    _sharding,
    _preparation,
    _text_and_splits,
    _evaluation,
    rival_checks.rivals,
    benchmark_checks.benchmarks,
)

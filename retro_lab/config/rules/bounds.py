"""What each setting may be on its own: ranges and choices that its type cannot say."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator
from math import inf

from ..errors import UserError
from ..schema import Config

SPLITS = ("train", "validation", "test")

_CHOICES = {
    "trainer.accelerator": ("cpu", "gpu", "auto"),
    "trainer.strategy": ("auto", "ddp", "fsdp"),
    "trainer.precision": ("32-true", "bf16-mixed"),
    "eval.split": SPLITS,
    "retriever.scorer": ("cross_encoder", "late_interaction"),
    "embedder.pooling": (None, "mean", "cls"),
    "embedder.precision": ("fp32", "bf16", "fp16"),
    "baseline": ("auto", None),
    "resume": ("auto", None),
}
_AT_LEAST_ONE = [
    "model.d_model",
    "model.num_layers",
    "model.num_heads",
    "model.head_dim",
    "model.d_ff",
    "model.encoder.d_model",
    "model.encoder.num_layers",
    "neighbours.k",
    "neighbours.k_store",
    "schedule.steps",
    "schedule.batch_size",
    "recipe.steps",
    "recipe.pointer_heads",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.accumulate",
    "trainer.val_every",
    "trainer.log_every",
    "trainer.checkpoint_every",
    "eval.batch_size",
    "eval.overlap_neighbours",
    "eval.bootstrap_samples",
    "eval.passages",
    "eval.answer_tokens",
    "eval.rivals.subsample_documents",
    "eval.rivals.tuning_tokens",
    "eval.rivals.knn_lm.nprobe",
    "eval.rivals.ralm.full_from",
    "retriever.ef_search",
    "retriever.pool",
    "retriever.depth",
    "retriever.constant",
    "retriever.batch_size",
    "retriever.dense.ef_search",
    "embedder.batch_size",
    "embedder.dim",
    "embedder.ngram",
    "tokenizer.max_train_bytes",
    "logger.csv.flush_every",
]
_AT_LEAST_ONE_OR_NULL = [
    "corpus.max_bytes",
    "prepare.workers",
    "trainer.threads",
    "trainer.val_windows",
    "eval.ngram",
    "eval.limit",
    "eval.k",
    "eval.max_run",
    "recipe.val_every",
    "model.encoder.num_heads",
    "model.encoder.head_dim",
    "neighbours.max_run",
    "retriever.nprobe",
    "retriever.nlist",
    "retriever.pq",
    "retriever.rerank",
    "retriever.dense.nprobe",
    "retriever.dense.nlist",
    "retriever.dense.pq",
    "retriever.dense.rerank",
    "embedder.max_length",
]
_NOT_NEGATIVE = [
    "chunking.continuation_chunks",
    "model.neighbour_noise",
    "schedule.warmup_steps",
    "recipe.warmup_steps",
    "prepare.gpus_per_worker",
    "trainer.num_workers",
    "optim.weight_decay",
    "seed",
    "eval.seed",
    "eval.pages",
    "eval.in_prompt",
    "retriever.seed",
    "retriever.k1",
    "retriever.bm25.k1",
    "retriever.lexical.k1",
]
_POSITIVE = [
    "optim.lr",
    "optim.muon_lr",
    "optim.eps",
    "recipe.lr",
    "recipe.optim.lr",
    "recipe.optim.muon_lr",
    "recipe.optim.eps",
]
_POSITIVE_OR_NULL = ["plain.lr"]
_FRACTIONS = [
    "neighbours.min_coverage",
    "schedule.final_ratio",
    "retriever.b",
    "retriever.bm25.b",
    "retriever.lexical.b",
]
# Far above what anyone trains, and below what takes all memory or never ends.
_AT_MOST = {
    "model.d_model": 2**16,
    "model.num_layers": 2**10,
    "model.num_heads": 2**10,
    "model.head_dim": 2**12,
    "model.d_ff": 2**20,
    "model.encoder.d_model": 2**16,
    "model.encoder.num_layers": 2**10,
    "model.encoder.num_heads": 2**10,
    "model.encoder.head_dim": 2**12,
    "chunking.chunk_size": 2**16,
    "chunking.sequence_length": 2**22,
    "chunking.continuation_chunks": 2**10,
    "neighbours.k": 2**12,
    "neighbours.k_store": 2**12,
    "schedule.steps": 10**9,
    "schedule.batch_size": 2**20,
    "recipe.steps": 10**9,
    "recipe.pointer_heads": 2**10,
    "tokenizer.vocab_size": 2**24,
    "embedder.dim": 2**16,
    "embedder.ngram": 2**10,
    "embedder.batch_size": 2**20,
    "trainer.devices": 2**12,
    "trainer.num_nodes": 2**16,
    "trainer.accumulate": 2**20,
    "trainer.threads": 2**12,
    "trainer.num_workers": 2**12,
    "trainer.val_windows": 2**31,
    "prepare.workers": 2**16,
    "eval.batch_size": 2**20,
    "eval.bootstrap_samples": 10**6,
    "eval.passages": 2**12,
    "eval.answer_tokens": 2**20,
    "eval.pages": 2**16,
    "eval.in_prompt": 2**12,
    "retriever.ef_search": 2**20,
    "retriever.pool": 2**20,
    "retriever.depth": 2**20,
    "retriever.batch_size": 2**20,
    "retriever.dense.ef_search": 2**20,
    "retriever.rerank": 2**12,
    "retriever.dense.rerank": 2**12,
}
_LARGEST_INT = 2**63 - 1  # what torch, NumPy and Parquet hold


def problem(key: str, value: object, rule: str, fix: str) -> UserError:
    """A broken rule in the one form that all have."""
    return UserError(f"{key}={text(value)}: {rule}", fix=fix)


def text(value: object) -> str:
    """A value as one types it on the command line."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(text(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(getattr(value, "name", value))


def values(config: Config, keys: Iterable[str]) -> Iterator[tuple[str, object]]:
    """The keys that this configuration's options have, with their values."""
    missing = object()
    for key in keys:
        value: object = config
        for part in key.split("."):
            value = getattr(value, part, missing)
        if value is not missing:
            yield key, value


def whole_numbers(node: object, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of the configuration, with its key; those in lists under the list's."""
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from whole_numbers(item, prefix)
    elif isinstance(node, dict):
        for name, item in node.items():
            yield from whole_numbers(item, f"{prefix}.{name}")
    elif dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            name = f"{prefix}.{field.name}" if prefix else field.name
            yield from whole_numbers(getattr(node, field.name), name)
    elif isinstance(node, int) and not isinstance(node, bool):
        yield prefix, node


def broken_bounds(config: Config) -> Iterator[UserError]:
    """One error for each setting of the chosen options that is out of its range."""
    bounds: list[tuple[Iterable[str], Callable, str, str]] = [
        (_AT_LEAST_ONE, lambda x: x >= 1, "must be at least 1", "1 or more"),
        (
            _AT_LEAST_ONE_OR_NULL,
            lambda x: x is None or x >= 1,
            "must be at least 1, or null",
            "1 or more, or null",
        ),
        (_NOT_NEGATIVE, lambda x: 0 <= x < inf, "must be finite and not negative", "0 or more"),
        (_POSITIVE, lambda x: 0 < x < inf, "must be finite and above 0", "a number above 0"),
        (
            _POSITIVE_OR_NULL,
            lambda x: x is None or 0 < x < inf,
            "must be finite and above 0, or null",
            "a number above 0, or null",
        ),
        (_FRACTIONS, lambda x: 0 <= x <= 1, "must be from 0 to 1", "a number from 0 to 1"),
    ]
    for keys, holds, rule, fix in bounds:
        for key, value in values(config, keys):
            if not holds(value):
                yield problem(key, value, rule, f"set {key} to {fix}")
    for key, value in values(config, _AT_MOST):
        if isinstance(value, int) and value > _AT_MOST[key]:
            yield problem(key, value, f"must be at most {_AT_MOST[key]}", f"lower {key}")
    for key, value in whole_numbers(config):
        if abs(value) > _LARGEST_INT and key not in _AT_MOST:
            yield problem(key, value, "is beyond 64 bits", f"set {key} to less than 2**63")
    for key, value in values(config, _CHOICES):
        if value not in _CHOICES[key]:
            offered = [text(choice) for choice in _CHOICES[key]]
            near = difflib.get_close_matches(text(value), offered, 1, cutoff=0.4) or offered
            yield problem(key, value, f"must be {' or '.join(offered)}", f"{key}={near[0]}")

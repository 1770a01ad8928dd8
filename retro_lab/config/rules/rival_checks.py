"""Rules for `eval.rivals`: names, grids, and strides that fit the evaluation's windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

from ..databases import is_training_split
from ..errors import UserError
from ..schema import RIVALS, Config, resolve_stride
from .bounds import problem, values

MAX_ORDER = 7  # a context and its byte fill a 64-bit key

_GRIDS: dict[str, tuple[Callable, str, str]] = {
    "knn_lm.neighbours": (lambda x: x >= 1, "1 or more", "[64,1024]"),
    "knn_lm.temperatures": (lambda x: 0 < x < inf, "above 0", "[1,10]"),
    "knn_lm.weights": (lambda x: 0 <= x < 1, "in [0, 1)", "[0.1,0.3]"),
    "ralm.strides": (lambda x: x >= 1, "1 or more", "[64]"),
    "ralm.query_lengths": (lambda x: x >= 1, "1 or more", "[32]"),
    "ralm.continuations": (lambda x: x >= 0, "0 or more", "[0,1]"),
    "matched.lr_factors": (lambda x: 0 < x < inf, "above 0", "[1]"),
    "ngram.orders": (lambda x: 0 <= x <= MAX_ORDER, f"from 0 to {MAX_ORDER}", "[5,6]"),
    "ngram.discounts": (lambda x: 0 < x <= 1, "in (0, 1]", "[0.5,0.9]"),
    "ngram.own_weights": (lambda x: x >= 1, "1 or more", "[1,3]"),
}


def rivals(config: Config) -> Iterator[UserError]:
    """Every problem of the rivals asked for; nothing is looked at when there are none."""
    asked = config.eval.rivals
    if not asked.which:
        return
    unknown = [name for name in asked.which if name not in RIVALS]
    if unknown or len(set(asked.which)) < len(asked.which):
        yield problem(
            "eval.rivals.which",
            asked.which,
            f"must be different ones of {', '.join(RIVALS)}",
            "eval.rivals.which=[knn_lm,xz]",
        )
    if config.eval.split != "test":
        yield problem(
            "eval.split",
            config.eval.split,
            "rivals learn from the training split and are tuned on validation",
            "eval.split=test",
        )
    if not is_training_split(config.database):
        yield problem(
            "database",
            config.database.name,
            "rivals learn from the training split, and must search what RETRO searches",
            "database=train, or another eval",
        )
    if config.recipe.backbone is not None:
        yield problem(
            "recipe.backbone",
            config.recipe.backbone,
            "rivals are built on a baseline of this project's own",
            "another eval for this run",
        )
    for name, (holds, rule, example) in _GRIDS.items():
        for key, found in values(config, [f"eval.rivals.{name}"]):
            grid = found if isinstance(found, list) else []
            if not grid or not all(holds(x) for x in grid) or len(set(grid)) < len(grid):
                yield problem(
                    key, found, f"must be different numbers, each {rule}", f"{key}={example}"
                )
    if "ralm" in asked.which:
        yield from _ralm(config)


def _ralm(config: Config) -> Iterator[UserError]:
    """A retrieved passage must leave room, and a stride must not straddle two windows."""
    size, length = config.chunking.chunk_size, config.chunking.sequence_length
    step, ralm = resolve_stride(config.eval, config.chunking), config.eval.rivals.ralm
    room = length - size * (1 + max(ralm.continuations, default=0))
    for stride in ralm.strides:
        if stride < 1:
            continue  # reported above
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

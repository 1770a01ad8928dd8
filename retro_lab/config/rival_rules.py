"""Rules on the rivals of a run: which can stand beside it, and what they are measured on."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import UserError, problem
from .schema import OF_ANY_MODEL, OF_RETRIEVAL, RIVALS, Config


def applicable_rivals(config: Config) -> list[str]:
    """The rivals that can stand beside a run."""
    backbone, retrieves = config.recipe.backbone is not None, config.retriever.retrieves
    return [
        name
        for name in (OF_ANY_MODEL if backbone else RIVALS)
        if retrieves or name not in OF_RETRIEVAL
    ]


def rivals(config: Config) -> Iterator[UserError]:
    """The rivals that are asked for fit the run, its windows and its database."""
    backbone = config.recipe.backbone is not None
    applicable = applicable_rivals(config)
    which = config.eval.rivals.names(applicable)
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
    if backbone and own:
        yield problem(
            "eval.rivals.which",
            config.eval.rivals.which,
            "recipe.backbone is given, and these need a model that this project trains: "
            f"{', '.join(own)}",
            f"eval.rivals.which=[{','.join(applicable)}]",
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

"""Rules between a pretrained backbone and the settings of other groups."""

from __future__ import annotations

from collections.abc import Iterator

from .backbone import tokenizer_path
from .errors import UserError, problem
from .schema import Config, HfTokenizerConfig, Method


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


BACKBONE_RULES = (_backbone, _further)

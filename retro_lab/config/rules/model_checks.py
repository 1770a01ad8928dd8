"""Rules between settings of the model, its CCA and its recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..backbone import tokenizer_path
from ..errors import UserError
from ..fingerprints import has_retrieval
from ..schema import (
    Config,
    Freeze,
    HfTokenizerConfig,
    Method,
    PositionKind,
    RecipeConfig,
    ValueKind,
    resolve_layers,
)
from .bounds import problem


def model(config: Config) -> Iterator[UserError]:
    """Positions, widths and the encoder."""
    model = config.model
    heads = {"model.head_dim": model.head_dim, "model.encoder.head_dim": model.encoder.head_dim}
    for key, head_dim in heads.items():
        if model.positions is PositionKind.rotary and (head_dim or 0) % 2:
            yield problem(
                key,
                head_dim,
                "rotary positions turn pairs of dimensions, so it must be even",
                f"{key}={(head_dim or 0) + 1}, or model.positions=relative",
            )
    if model.value is ValueKind.continuation and not config.chunking.continuation_chunks:
        yield problem(
            "model.value",
            model.value,
            "chunking.continuation_chunks=0 leaves nothing of the neighbours to read",
            "chunking.continuation_chunks=1, or model.value=neighbour",
        )
    if not 0 <= model.dropout < 1:
        yield problem("model.dropout", model.dropout, "must be in [0, 1)", "model.dropout=0.0")
    own = config.recipe.backbone is None  # a backbone's sizes are known once it is read
    if own and model.share_embeddings and model.d_model != model.encoder.d_model:
        yield problem(
            "model.share_embeddings",
            True,
            f"needs equal widths, but model.d_model={model.d_model} and "
            f"model.encoder.d_model={model.encoder.d_model}",
            f"model.encoder.d_model={model.d_model}, or model.share_embeddings=false",
        )
    depth = model.encoder.num_layers
    if depth >= 1 and not all(1 <= layer <= depth for layer in model.encoder.cca_layers):
        yield problem(
            "model.encoder.cca_layers",
            model.encoder.cca_layers,
            f"the encoder's layers count from 1 to {depth}",
            "model.encoder.cca_layers=[1]",
        )


def cca(config: Config) -> Iterator[UserError]:
    """Layers of CCA; those of a backbone are looked at once its depth is known."""
    if not has_retrieval(config) or config.recipe.backbone is not None:
        return
    yield from cca_layers(config)


def cca_layers(config: Config) -> Iterator[UserError]:
    """What is wrong with the layers of CCA, in a model of `model.num_layers`."""
    num_layers = config.model.num_layers
    layers = resolve_layers(config.cca, num_layers)
    explicit = config.cca.layers is not None
    key = "cca.layers" if explicit else "cca"
    value = config.cca.layers if explicit else config.cca.placement
    if not layers:
        yield problem(key, value, f"gives a model of {num_layers} layers no CCA at all", "cca=mid")
    elif layers[0] < 1 or layers[-1] > num_layers:
        yield problem(
            key, value, f"layers count from 1 to {num_layers} (model.num_layers)", "cca=mid"
        )


def recipe(config: Config) -> Iterator[UserError]:
    """What is trained when, and the read-out."""
    if not has_retrieval(config):
        return
    recipe = config.recipe
    if recipe.method is Method.retrofit:
        if config.baseline is None and recipe.backbone is None:
            yield problem(
                "baseline",
                None,
                "recipe.method=retrofit starts from the trained baseline",
                "baseline=auto, or recipe=scratch",
            )
        if recipe.warmup_steps > recipe.steps:
            yield problem(
                "recipe.warmup_steps",
                recipe.warmup_steps,
                f"is more than recipe.steps={recipe.steps}",
                f"recipe.warmup_steps={recipe.steps // 10}",
            )
        yield from _unfreezing(recipe)
    elif recipe.freeze is Freeze.backbone:
        yield problem(
            "recipe.freeze",
            recipe.freeze,
            "from scratch, a frozen backbone would stay untrained",
            "recipe.freeze=none, or recipe.method=retrofit",
        )

    width = config.model.num_heads * config.model.head_dim
    if recipe.pointer and recipe.pointer_heads > 0 and width % recipe.pointer_heads:
        yield problem(
            "recipe.pointer_heads",
            recipe.pointer_heads,
            f"must divide the width of attention, model.num_heads * model.head_dim = {width}",
            f"recipe.pointer_heads={math.gcd(width, recipe.pointer_heads)}",
        )
    if not 0 <= recipe.neighbour_dropout < 1:
        yield problem(
            "recipe.neighbour_dropout",
            recipe.neighbour_dropout,
            "must be in [0, 1)",
            "recipe.neighbour_dropout=0.0",
        )


def _unfreezing(recipe: RecipeConfig) -> Iterator[UserError]:
    after = recipe.unfreeze_after
    if after is None:
        return
    if recipe.freeze is not Freeze.backbone:
        yield problem(
            "recipe.unfreeze_after",
            after,
            f"with recipe.freeze={recipe.freeze.name} nothing is frozen before",
            "recipe.unfreeze_after=null, or recipe.freeze=backbone",
        )
    elif not 1 <= after < recipe.steps:
        yield problem(
            "recipe.unfreeze_after",
            after,
            f"must be from 1 to recipe.steps - 1 = {recipe.steps - 1}",
            "recipe.unfreeze_after=null (never), or recipe.freeze=none (from the start)",
        )


def backbone(config: Config) -> Iterator[UserError]:
    """A pretrained model and its tokenizer."""
    recipe = config.recipe
    if recipe.backbone is None:
        return
    if has_retrieval(config) and recipe.method is Method.scratch:
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

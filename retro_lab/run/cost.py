"""What training a run cost, from its configuration alone."""

from __future__ import annotations

from retro_lab.config.fingerprints import baseline_of
from retro_lab.config.schema import Config, Method
from retro_lab.nn.flops import count_flops


def training_flops(config: Config) -> float | None:
    """Floating-point operations of a run's own training steps; None on a pretrained backbone.

    A retrofit's baseline is a run of its own and not counted here, nor are validations. Frozen
    weights count as if they were trained: the backward pass still goes through their layers.
    """
    from .model import nominal_vocab_size, retro_config

    if config.recipe.backbone is not None:
        return None
    size = nominal_vocab_size(config.tokenizer)
    steps = config.recipe.steps if config.is_retrofit else config.schedule.steps
    batch, length = config.schedule.batch_size, config.chunking.sequence_length
    model = retro_config(config, size, size - 1)
    return float(steps * count_flops(model, batch, length, config.neighbours.k).step)


def steps_of_equal_flops(config: Config) -> int:
    """Steps after which training the baseline has cost what training RETRO costs, rounded.

    A retrofit costs its baseline's training as well.
    """
    baseline = baseline_of(config)
    total, plain = training_flops(config), training_flops(baseline)
    assert total is not None, "a pretrained backbone has no plain model"
    assert plain is not None
    if config.recipe.method is Method.retrofit:
        total += plain
    return round(total / plain * baseline.schedule.steps)

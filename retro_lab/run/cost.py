"""Training cost of a run in FLOPs, computed from its configuration alone."""

from __future__ import annotations

from retro_lab.config.fingerprints import baseline_of
from retro_lab.config.schema import Config, Method
from retro_lab.nn.flops import count_flops


def training_flops(config: Config) -> float | None:
    """Floating-point operations of a run's own training steps; None on a pretrained backbone.

    Validation and a retrofit's baseline are not counted. Frozen weights count as if they were
    trained, because the backward pass still goes through their layers.
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
    """Baseline training steps that cost as many FLOPs as training RETRO, rounded.

    The cost of a retrofit includes the training of its baseline.
    """
    baseline = baseline_of(config)
    total, plain = training_flops(config), training_flops(baseline)
    assert total is not None, "a pretrained backbone has no plain model"
    assert plain is not None
    if config.recipe.method is Method.retrofit:
        total += plain
    return round(total / plain * baseline.schedule.steps)

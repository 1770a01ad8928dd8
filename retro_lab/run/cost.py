"""Training cost of a run in FLOPs, computed from its configuration and its backbone's sizes."""

from __future__ import annotations

from retro_lab.config.fingerprints import baseline_of, plain_of
from retro_lab.config.schema import Config
from retro_lab.nn.flops import PASSES_PER_STEP, count_flops

from .backbone import with_backbone


def training_flops(config: Config) -> float:
    """Floating-point operations of a run's own training steps; 0 for an unchanged backbone.

    Validation and a retrofit's baseline are not counted. Frozen weights count as if they were
    trained, because the backward pass still goes through their layers.

    Raises:
        UserError: a backbone can't be read.
    """
    if config.is_backbone_alone:
        return 0.0
    steps = config.recipe.steps if config.is_retrofit else config.schedule.steps
    return float(steps * _of_a_step(config))


def steps_of_equal_flops(config: Config) -> int:
    """Steps of the plain model that cost as many FLOPs as training RETRO, rounded.

    The cost of a retrofit includes the training of its baseline, unless that is a pretrained
    backbone.
    """
    total = training_flops(config)
    if config.is_retrofit:
        total += training_flops(baseline_of(config))
    return round(total / _of_a_step(plain_of(config, 1)))


def _of_a_step(config: Config) -> int:
    """Operations of an optimiser step."""
    from .model import nominal_vocab_size, retro_config

    config = with_backbone(config)
    size = nominal_vocab_size(config.tokenizer)
    batch, length = config.schedule.batch_size, config.chunking.sequence_length
    model = retro_config(config, size, size - 1)
    count = count_flops(model, batch, length, config.neighbours.k)
    if config.recipe.backbone is None:
        return count.step
    from retro_lab.huggingface.backbones import forward_flops, read_config

    own = forward_flops(read_config(config.recipe.backbone), batch, length)
    return PASSES_PER_STEP * (own + count.cca + count.encoder + count.pointer)
